"""What a process holds, before and after."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_PINNED = ("VmPin", "VmLck")
_ALLOCATORS = 4
"""Mappings that malloc and threads may add by themselves: an arena, a cached stack."""


@dataclass(frozen=True)
class Holdings:
    """Descriptors (number and what they are), mappings, pinned kB.

    ``ours``: the mappings that can only be areas or rings, being of a ring, of a
    memfd, or not for forked children.
    """

    fds: tuple[tuple[int, str], ...]
    mappings: int
    ours: int
    pinned_kb: int

    @classmethod
    def now(cls, pid: int | str = "self") -> Holdings:
        proc = Path(f"/proc/{pid}")
        fds = []
        for entry in (proc / "fd").iterdir():
            try:
                target = os.readlink(entry)
            except FileNotFoundError:
                continue  # the one that lists the folder
            fds.append((int(entry.name), target))
        maps = (proc / "maps").read_text().splitlines()
        ours = sum("[io_uring]" in line or "memfd:pyzcrx" in line for line in maps)
        ours += sum(
            line.startswith("VmFlags:") and " dc" in line
            for line in (proc / "smaps").read_text().splitlines()
        )
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        pinned = sum(int(status[name].split()[0]) for name in _PINNED)
        return cls(tuple(sorted(fds)), len(maps), ours, pinned)


def resident_kb(pid: int | None = None) -> int:
    """Resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss) >> 10


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Descriptors, mappings and pinned memory are afterwards what they were before."""
    gc.collect()
    before = Holdings.now()
    yield
    gc.collect()
    # The kernel unpins in its own time once a ring is closed.
    deadline = time.monotonic() + 30
    while (after := Holdings.now()).pinned_kb > before.pinned_kb and time.monotonic() < deadline:
        time.sleep(0.01)
    assert after.fds == before.fds, set(after.fds) ^ set(before.fds)
    assert after.pinned_kb == before.pinned_kb, (before.pinned_kb, after.pinned_kb)
    assert after.ours == before.ours, (before.ours, after.ours)
    assert after.mappings <= before.mappings + _ALLOCATORS, (before.mappings, after.mappings)

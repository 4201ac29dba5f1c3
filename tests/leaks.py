"""What a process holds, and what the kernel holds for all of them, before and after."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.patience import PATIENCE_S, START_S

_SLABS = Path("/sys/kernel/slab")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") >> 10
_NAMED = (
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "AnonPages",
    "Slab",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "Percpu",
    "VmallocUsed",
)
_WATCHERS = ("debug_objects_cache",)
"""Of a kernel that checks itself: what it notes of others, some more at each look."""
_PINNED = ("VmPin", "VmLck")
_ALLOCATORS = 32 + 16 * (os.cpu_count() or 1)
"""Mappings that malloc, threads and Python may add by themselves: arenas (malloc's are eight a
CPU of two mappings, once so many threads ran at once; Python's are of a MiB, and ten thousand
buffers were held), cached stacks. Leaks of ours repeat more often."""


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


@dataclass(frozen=True)
class KernelHoldings:
    """What the whole system holds, once what is merely kept at hand was given back.

    ``pinned``: pages pinned by areas and the like. ``vmalloc``: pages of vmalloc but for
    stacks. ``nameless``: pages in use of which /proc/meminfo does not say for what: those
    of page pools are among them. ``objects``: in use, of each slab cache. Needs root.
    """

    pinned: int
    vmalloc: int
    nameless: int
    objects: dict[str, int]

    @classmethod
    def now(cls) -> KernelHoldings:
        free_deferred_skbs()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        for cache in _SLABS.iterdir():
            (cache / "shrink").write_text("1\n")  # what CPUs keep counts as in use
        fold_statistics()
        return cls(pinned_pages(), _vmalloc_pages(), _nameless_pages(), _objects())

    def since(self, before: KernelHoldings, rounds: int) -> KernelHoldings:
        """What was added; of ``objects`` only what an object a round would show.

        A slab cache has, for each CPU, up to three sheaves of objects that are free
        and count as in use (``mm/slub.c:struct slub_percpu_sheaves``).
        """
        objects = {}
        for name, count in self.objects.items():
            kept = int((_SLABS / name / "sheaf_capacity").read_text())
            more = count - before.objects.get(name, 0)
            if more >= rounds + 3 * kept * (os.cpu_count() or 1):
                objects[name] = more
        return KernelHoldings(
            self.pinned - before.pinned,
            self.vmalloc - before.vmalloc,
            self.nameless - before.nameless,
            objects,
        )

    def least(self, other: KernelHoldings) -> KernelHoldings:
        """Of each account what both added at least: a leak adds to the same ones every time."""
        return KernelHoldings(
            min(self.pinned, other.pinned),
            min(self.vmalloc, other.vmalloc),
            min(self.nameless, other.nameless),
            {
                name: min(more, other.objects[name])
                for name, more in self.objects.items()
                if name in other.objects
            },
        )


def _vmalloc_pages() -> int:
    return sum(
        int(word.removeprefix("pages="))
        for line in Path("/proc/vmallocinfo").read_text().splitlines()
        if "stack" not in line
        for word in line.split()
        if word.startswith("pages=")
    )


def _nameless_pages() -> int:
    kb = {
        line.split(":")[0]: int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
    }
    # Free pages that a CPU keeps at hand are not in MemFree.
    at_hand = sum(
        int(line.split()[1])
        for line in Path("/proc/zoneinfo").read_text().splitlines()
        if line.strip().startswith("count:")
    )
    return (kb["MemTotal"] - sum(kb[name] for name in _NAMED)) // _PAGE_KB - at_hand


def _objects() -> dict[str, int]:
    return {
        cache.name: int((cache / "objects").read_text().split()[0])
        for cache in _SLABS.iterdir()
        if not cache.is_symlink() and cache.name not in _WATCHERS
    }


def pinned_pages() -> int:
    """Pages pinned for DMA, in the whole system."""
    fold_statistics()
    vmstat = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(vmstat["nr_foll_pin_acquired"]) - int(vmstat["nr_foll_pin_released"])


def fold_statistics() -> None:
    """Have each CPU add what it counted of memory to the sums.

    Until then up to 125 pages a CPU are missing in each of them
    (``mm/vmstat.c:calculate_normal_threshold()``), so in their differences as well.
    """
    Path("/proc/sys/vm/stat_refresh").write_text("1\n")


def free_deferred_skbs() -> None:
    """Have each CPU free the packets that others left it to free.

    A packet that was read is freed by the CPU that made it, when that takes packets
    again (``net/core/skbuff.c:skb_attempt_defer_free()``). Where the only card has gone
    that is never, and one such packet keeps the page pool and with it a whole area.
    """
    here = os.sched_getaffinity(0)
    try:
        for cpu in range(os.cpu_count() or 1):
            os.sched_setaffinity(0, {cpu})
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                sock.sendto(b"x", sock.getsockname())
                assert sock.recv(1) == b"x"
    finally:
        os.sched_setaffinity(0, here)


def resident_kb(pid: int | None = None) -> int:
    """Resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss) >> 10


def settled(pid: int, fds: int) -> Holdings:
    """Those of a process, once it has no more than so many descriptors, or will not."""
    deadline = time.monotonic() + START_S
    while len((now := Holdings.now(pid)).fds) > fds and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def _steady() -> Holdings:
    """Once the kernel has unpinned what was closed before."""
    now = Holdings.now()
    if now.pinned_kb:  # maybe by a packet of who ran before
        free_deferred_skbs()
    while (next_ := Holdings.now()).pinned_kb != now.pinned_kb:
        now = next_
        time.sleep(0.02)
    return now


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Descriptors, mappings and pinned memory are afterwards what they were before."""
    gc.collect()
    before = _steady()
    yield
    gc.collect()
    # The kernel unpins in its own time once a ring is closed, and its last packets are freed.
    deadline = time.monotonic() + PATIENCE_S
    while (after := Holdings.now()).pinned_kb > before.pinned_kb and time.monotonic() < deadline:
        free_deferred_skbs()
        time.sleep(0.01)
    assert after.fds == before.fds, set(after.fds) ^ set(before.fds)
    assert after.pinned_kb == before.pinned_kb, (before.pinned_kb, after.pinned_kb)
    assert after.ours == before.ours, (before.ours, after.ours)
    assert after.mappings <= before.mappings + _ALLOCATORS, (before.mappings, after.mappings)

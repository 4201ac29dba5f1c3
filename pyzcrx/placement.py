"""Placement at run time: on which CPU the receiver runs, and on which its packets come in.

The kernel processes a flow's packets in softirq, on the CPU of its queue's interrupt (or in
a NAPI thread). A receiver on the same CPU has the headers in its cache and takes turns with
that work; one on another CPU gets more done at once.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from pyzcrx._common.checked import MOST_US, integer, number_of
from pyzcrx._kernel.cpus import check_allowed, check_exist, text_of
from pyzcrx.errors import BadArgument

SO_INCOMING_CPU = 49
SO_INCOMING_NAPI_ID = 56  # include/uapi/asm-generic/socket.h; Python has no name for either

_MOST_CPU = (1 << 16) - 1

Mode = Literal["same", "other"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """Where a socket's last packet was processed. None: none came, or not by a NIC.

    cpu: on which CPU. napi_id: by which NAPI instance.
    """

    cpu: int | None
    napi_id: int | None


def incoming(sock: socket.socket | int) -> Incoming:
    """Of a connected socket, or its descriptor. Raises OSError for what is none.

    Kernel: ``net/core/sock.c:sk_getsockopt()``, SO_INCOMING_CPU (3.19),
    SO_INCOMING_NAPI_ID (4.12).
    """
    if not isinstance(sock, socket.socket):
        borrowed = socket.socket(fileno=number_of(sock))
        try:
            return incoming(borrowed)
        finally:
            borrowed.detach()
    cpu = sock.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU)
    napi_id = sock.getsockopt(socket.SOL_SOCKET, SO_INCOMING_NAPI_ID)
    return Incoming(cpu if cpu >= 0 else None, napi_id or None)


def choose(mode: Mode | int, softirq: Set[int], allowed: Set[int]) -> frozenset[int]:
    """The CPUs for a receiver whose packets are processed on those of *softirq*.

    mode: "same": these; "other": all but these; a number: that one; always of those *allowed*.
    Raises BadArgument where that leaves none, or nobody knows the softirq's.
    """
    if mode not in ("same", "other"):
        mode = integer("CPU", mode, 0, _MOST_CPU)
        check_allowed({mode}, allowed)
        return frozenset({mode})
    if not softirq:
        raise BadArgument(
            f"'{mode}' needs to know the CPU of the queue's interrupt, which cannot be seen; "
            "give a CPU's number"
        )
    chosen = allowed & softirq if mode == "same" else allowed - softirq
    if not chosen:
        raise BadArgument(
            f"packets of the queue come in on CPU {text_of(softirq)}, and of {text_of(allowed)} "
            f"none is {'the same' if mode == 'same' else 'another'}"
        )
    return frozenset(chosen)


def pin(cpus: Set[int], pid: int = 0) -> None:
    """Have this thread (pid 0), or thread *pid*, run on *cpus* only. Raises BadArgument."""
    cpus = {integer("CPU", cpu, 0, _MOST_CPU) for cpu in cpus}
    check_exist(cpus)
    try:
        os.sched_setaffinity(integer("pid", pid, 0, (1 << 31) - 1), cpus)
    except OSError as error:
        raise BadArgument(f"CPU {text_of(cpus)}: {error.strerror}") from None


@contextmanager
def pinned(cpus: Set[int]) -> Iterator[None]:
    """This thread runs on *cpus* only, as long as the block lasts. Raises BadArgument."""
    before = os.sched_getaffinity(0)
    pin(cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def current_cpu() -> int:
    """The CPU that this thread ran on a moment ago."""
    with open("/proc/thread-self/stat") as file:
        # Field 39, counted behind the name, which may hold anything.
        return int(file.read().rpartition(")")[2].split()[36])


class Tally:
    """Where connections' packets were processed: how many on each CPU and NAPI instance.

    busy_poll_us: microseconds of busy polling, for the figures.
    """

    def __init__(self, *, busy_poll_us: int = 0) -> None:
        self.busy_poll_us = integer("busy_poll_us", busy_poll_us, 0, MOST_US)
        self._cpus: Counter[int] = Counter()
        self._napi_ids: Counter[int] = Counter()

    def note(self, fd: int) -> None:
        """Count the connection of descriptor *fd*: once, best when it ends."""
        with suppress(OSError):
            found = incoming(fd)
            if found.cpu is not None:
                self._cpus[found.cpu] += 1
            if found.napi_id is not None:
                self._napi_ids[found.napi_id] += 1

    def as_dict(self) -> dict[str, Any]:
        """``placement`` of a command's ``--json``."""
        return {
            "receiver_cpu": current_cpu(),
            "receiver_cpus": sorted(os.sched_getaffinity(0)),
            "softirq_cpus": {str(cpu): n for cpu, n in sorted(self._cpus.items())},
            "napi_ids": {str(napi_id): n for napi_id, n in sorted(self._napi_ids.items())},
            "busy_poll_us": self.busy_poll_us,
        }

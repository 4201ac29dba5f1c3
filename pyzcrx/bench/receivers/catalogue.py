"""The receivers that are compared: name, what it is, and the function that receives.

Each function registers what it needs, opens the gate, receives until every connection has
ended, and stops the meter.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from pyzcrx.bench.gate import Gate
from pyzcrx.bench.receivers import example, mapped, sockets, streams, zcrx


@dataclass(frozen=True)
class Receiver:
    """One way to receive in Python."""

    run: Callable[[Gate], None]
    about: str
    zcrx: bool = False
    copies: float | None = 1.0
    """How often the CPU copies each byte; None: it depends, the run tells."""


RECEIVERS = {
    "columns": Receiver(zcrx.columns, "pyzcrx, batches as columns", zcrx=True, copies=None),
    "buffers": Receiver(zcrx.buffers, "pyzcrx, a Buffer a chunk", zcrx=True, copies=None),
    "liburing": Receiver(example.example, "liburing's examples/zcrx.c", zcrx=True, copies=None),
    "recv_into-64K": Receiver(sockets.recv_into_64k, "socket.recv_into, 64 KiB"),
    "recv_into-1M": Receiver(sockets.recv_into_1m, "socket.recv_into, 1 MiB"),
    "epoll": Receiver(sockets.epoll_recv, "select.epoll and recv, 64 KiB"),
    "asyncio": Receiver(streams.asyncio_streams, "asyncio streams, 64 KiB reads"),
    "uvloop": Receiver(streams.uvloop_streams, "the same on uvloop"),
    "mapped": Receiver(mapped.mapped, "TCP_ZEROCOPY_RECEIVE by mmap", copies=None),
}
"""``c``, the receiver in C, is a program of its own: csrc/bench/receiver.c."""


EXAMPLE = "liburing"


def missing(name: str) -> str:
    """Why this receiver cannot run on this machine; empty if it can."""
    if name == "uvloop" and importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    return ""

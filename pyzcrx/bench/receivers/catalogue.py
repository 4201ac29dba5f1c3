"""The receivers that are compared: name, what it is, and the function that receives.

Each function registers what it needs, opens the gate, receives until every connection has
ended, and stops the meter.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from pyzcrx.bench.gate import Gate


@dataclass(frozen=True)
class Receiver:
    """One way to receive in Python."""

    place: str
    """The module here, and the function in it."""
    about: str
    zcrx: bool = False
    copies: float | None = 1.0
    """How often the CPU copies each byte; None: it depends, the run tells."""

    echoes: bool = False
    """Whether it sends every byte back; the sender reads them."""
    relays: bool = False
    """Whether they go back by a second connection, which the sender makes for each."""

    short: str = ""
    """The same for connections that come and go, if there is one."""

    def function(self, *, short: bool = False) -> Callable[[Gate], None]:
        """What receives, imported by the process that runs it alone: each needs much of its own."""
        module, name = (self.short if short else self.place).split(".")
        found: Callable[[Gate], None]
        found = getattr(importlib.import_module(f"pyzcrx.bench.receivers.{module}"), name)
        return found


RECEIVERS = {
    "columns": Receiver(
        "zcrx.columns", "pyzcrx, batches as columns", zcrx=True, copies=None, short="short.columns"
    ),
    "chunks": Receiver("zcrx.chunks", "pyzcrx, for chunk in stream", zcrx=True, copies=None),
    "buffers": Receiver(
        "zcrx.buffers", "pyzcrx, a Buffer a chunk", zcrx=True, copies=None, short="short.buffers"
    ),
    "liburing-gather": Receiver(
        "example.example", "liburing's examples/zcrx.c, gathering", zcrx=True, copies=None
    ),
    "liburing": Receiver("example.example", "liburing's examples/zcrx.c", zcrx=True, copies=None),
    "echo": Receiver("echo.by_rule", "pyzcrx, an echo", zcrx=True, copies=None, echoes=True),
    "echo-copied": Receiver(
        "echo.copied", "the same, sent by copy", zcrx=True, copies=None, echoes=True
    ),
    "echo-zero-copy": Receiver(
        "echo.zero_copy", "the same, sent without", zcrx=True, copies=None, echoes=True
    ),
    "relay-copied": Receiver(
        "echo.relay_copied",
        "pyzcrx, a relay, sent by copy",
        zcrx=True,
        copies=None,
        echoes=True,
        relays=True,
    ),
    "relay-zero-copy": Receiver(
        "echo.relay_zero_copy",
        "the same, sent without",
        zcrx=True,
        copies=None,
        echoes=True,
        relays=True,
    ),
    "recv_into-64K": Receiver(
        "sockets.recv_into_64k", "socket.recv_into, 64 KiB", short="short.recv_into"
    ),
    "recv_into-1M": Receiver("sockets.recv_into_1m", "socket.recv_into, 1 MiB"),
    "epoll": Receiver(
        "sockets.epoll_recv", "select.epoll and recv, 64 KiB", short="short.epoll_recv"
    ),
    "asyncio": Receiver(
        "streams.asyncio_streams", "asyncio streams, 64 KiB reads", short="short.asyncio_streams"
    ),
    "uvloop": Receiver("streams.uvloop_streams", "the same on uvloop"),
    "aio-chunks": Receiver(
        "aio.chunks", "pyzcrx.aio, async for chunk, on its loop", zcrx=True, copies=None
    ),
    "aio-streams": Receiver(
        "aio.streams",
        "asyncio streams on pyzcrx's loop",
        zcrx=True,
        copies=None,
        short="short.aio_streams",
    ),
    "aio-uvloop": Receiver(
        "aio.uvloop_events", "pyzcrx.aio, async for event, on uvloop", zcrx=True, copies=None
    ),
    "mapped": Receiver("mapped.mapped", "TCP_ZEROCOPY_RECEIVE by mmap", copies=None),
}
"""Those in Python, and liburing's examples, which a process in Python begins and measures."""

REFERENCE = "c-gather"
"""What receivers are compared with: it gathers as busy turns of pyzcrx do."""
C = {
    REFERENCE: "our receiver in C, csrc/bench, gathering",
    "c": "the same, woken by the first completion",
}
"""Those in C: csrc/bench/receiver.c, a program of its own."""
EXAMPLES = {"liburing-gather": "zcrx-gather", "liburing": "zcrx"}
"""liburing's examples/zcrx.c as csrc/CMakeLists.txt builds it: the names of the programs."""


def echoes(name: str) -> bool:
    """Whether it sends back what it receives."""
    return name in RECEIVERS and RECEIVERS[name].echoes


def relays(name: str) -> bool:
    """Whether that goes by a second connection."""
    return name in RECEIVERS and RECEIVERS[name].relays


def takes_short(name: str) -> bool:
    """Whether it also receives from connections that come and go."""
    return name in C or (name in RECEIVERS and bool(RECEIVERS[name].short))


ALL = (*C, *RECEIVERS)
COMPARED = tuple(name for name in ALL if not echoes(name))
"""Where nobody says: those that only receive."""


def gathers(name: str) -> bool:
    """Whether it is a C receiver that waits for more, though nobody sends: useless for echoes."""
    return name.endswith("-gather")


def missing(name: str) -> str:
    """Why this receiver cannot run on this machine; empty if it can."""
    if name in ("uvloop", "aio-uvloop") and importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    return ""

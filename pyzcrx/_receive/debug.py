"""Debug mode: who leased a buffer, what was forgotten, memory poisoned at release.

``pyzcrx.Ring(debug=True)``, or PYZCRX_DEBUG=1 in the environment. Costs a walk up the
stack and a memset for each buffer; without it, nothing.
"""

from __future__ import annotations

import os
import warnings
import weakref
from typing import TypeVar

from pyzcrx._common.caller import caller
from pyzcrx._lease import Account, Data, Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx.errors import LeakWarning

R = TypeVar("R")

POISON = 0xA5
"""What released memory holds."""


def wanted(debug: bool | None) -> bool:
    """What the caller says, else what the environment says."""
    if debug is not None:
        return debug
    return os.environ.get("PYZCRX_DEBUG", "0") not in ("", "0")


class DebugBuffer(Buffer):
    """A Buffer that knows the lines which leased and released it."""

    __slots__ = ("leased_at", "released_at")

    leased_at: str
    released_at: str

    def _story(self) -> str:
        told = f"; leased at {self.leased_at}" if hasattr(self, "leased_at") else ""
        return told + (f"; released at {self.released_at}" if self.released else "")

    def release(self) -> None:
        super().release()
        self.released_at = caller()

    def _let_go(self) -> None:
        if not self.released:
            self.released_at = caller()
        super()._let_go()

    def __del__(self) -> None:
        if hasattr(self, "leased_at") and not self.released:
            warnings.warn(
                f"a Buffer of {len(self)} bytes was forgotten{self._story()}",
                LeakWarning,
                stacklevel=2,
                source=self,
            )


def mark(_request: object, buffer: Buffer) -> Buffer:
    """The buffer itself, marked with the line that asked for it."""
    assert isinstance(buffer, DebugBuffer)
    buffer.leased_at = caller()
    return buffer


def data(request: R, buffer: Buffer) -> Data[R, Buffer]:
    """A Data event, its buffer marked with the line that asked for it."""
    return Data(request, mark(request, buffer))


def report_leaks(account: Account, known: set[int]) -> None:
    """Warn of the buffers that are out as their ring closes, but for those *known* by id."""
    for lease in account.oldest(-1):
        if not isinstance(lease, DebugBuffer) or id(lease) in known:
            continue
        if lease.exports or not lease.released:
            state = "viewed" if lease.exports else "out"
            warnings.warn(
                f"a Buffer of {len(lease)} bytes is {state} while its ring closes{lease._story()}",
                LeakWarning,
                stacklevel=5,
            )


def poison(memory: Span, at: int, length: int) -> None:
    """Overwrite bytes that go back to the kernel."""
    if not memory._unreadable:
        memoryview(memory)[at : at + length] = bytes([POISON]) * length


class BatchWatch:
    """The views taken of one batch, each of an exporter of its own."""

    def __init__(self) -> None:
        self._views: list[tuple[weakref.ref[Span], str]] = []

    def view(self, memory: Span, at: int, length: int) -> memoryview:
        span = Span(memory, at, length, True)
        self._views.append((weakref.ref(span), caller()))
        return memoryview(span)

    def released(self) -> None:
        """Warn of those that live on."""
        views, self._views = self._views, []
        for span, where in views:
            if span() is not None:
                warnings.warn(
                    f"a view of a batch lives on while its bytes go back to the kernel; "
                    f"taken at {where}",
                    LeakWarning,
                    stacklevel=4,
                )

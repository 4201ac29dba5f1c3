"""Signals that end us: everything under way is undone first, and nothing more begins."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_numbers: list[int] = []
"""The signal that ends us, once it came."""


class Stopped(BaseException):
    """A signal that ends us: everything under way is undone first."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped for the signals that would end us without undoing anything."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in before:  # once: undoing is not to be interrupted
            signal.signal(each, signal.SIG_IGN)
        _numbers.append(number)
        raise Stopped(number)

    before = {
        number: handler
        for number in (signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) != signal.SIG_IGN  # as nohup has it
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _numbers.clear()


def check() -> None:
    """Raise Stopped if such a signal came, although the exception that it raised is lost.

    An error of what is undone takes its place, and in a finalizer Python drops it.
    """
    if _numbers:
        raise Stopped(_numbers[0])

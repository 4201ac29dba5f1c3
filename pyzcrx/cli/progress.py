"""How far long work is: a line that is redrawn on a terminal, otherwise lines now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import click

REDRAW_S = 0.2
LINES_S = 10.0
_CLEAR = "\r\x1b[K"


class Progress:
    """Lines on standard error, each behind the *program*'s name.

    interval_s: between lines where it is no terminal; None: ten seconds.
    """

    def __init__(
        self,
        program: str,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._program = program
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._interval_s = REDRAW_S if self._terminal else interval_s or LINES_S
        self._due = clock() + self._interval_s
        self._drawn = False

    def wait_s(self) -> float:
        """Seconds until :meth:`show` shows something."""
        return max(0.0, self._due - self._clock())

    def show(self, text: Callable[[], str]) -> None:
        """Show *text*, if it is time to."""
        if self.wait_s():
            return
        self._due = self._clock() + self._interval_s
        line = f"{self._program}: {text()}"
        if self._terminal:
            click.echo(f"{_CLEAR}{line[: _columns() - 1]}", err=True, nl=False)
            self._drawn = True
        else:
            click.echo(line, err=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        click.echo(f"{self._program}: {text}", err=True)

    def clear(self) -> None:
        """Remove the line that is redrawn."""
        if self._drawn:
            click.echo(_CLEAR, err=True, nl=False)
            self._drawn = False


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80

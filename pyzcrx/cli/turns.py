"""The loop of a command that serves: turns, until it is asked to end."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyzcrx.cli.card import Watch
from pyzcrx.cli.stop import Stop


def serve(
    turn: Callable[[float | None], object],
    stop: Stop,
    watch: Watch,
    *,
    done: Callable[[], bool] = lambda: False,
    interval: float | None = None,
    show: Callable[[], object] = lambda: None,
) -> None:
    """Take turns until *stop* is asked, or *done*.

    turn: waits at most that many seconds; None: as long as it takes. interval: seconds from one
    call of *show* to the next; None: never.
    """
    due = time.monotonic() + (interval or 0)
    while not (stop.asked or done()):
        turn(watch.left(max(0.0, due - time.monotonic()) if interval else None))
        watch.look()
        if interval and time.monotonic() >= due:
            due += interval
            show()

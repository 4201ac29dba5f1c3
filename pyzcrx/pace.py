"""How long a turn gathers completions before it returns.

Waking for every packet costs more than the packet. While much arrives, a turn waits until
there is a batch worth it, or a short time is over; while little arrives, it returns with
the first completion, so that nobody who asks and answers waits.

Kernel: ``io_uring/wait.c:io_cqring_min_timer_wakeup()``, ``min_wait_usec`` (6.12).
"""

from __future__ import annotations

BUSY = 16
"""Buffers of a turn from which on the next one gathers."""
ENOUGH = 256
"""Buffers that make a batch worth its turn."""
MOST_US = 500
"""Unless asked otherwise."""
_FIRST_US = 25


class Pace:
    """The time to gather, from what the turns before brought; at most *most_us*."""

    __slots__ = ("_busy", "_enough", "_most_us", "us")

    def __init__(self, most_us: int) -> None:
        self._most_us = most_us
        self._busy = BUSY
        self._enough = ENOUGH
        self.us = 0
        """How many microseconds the next turn gathers; 0: not at all."""

    def fit(self, buffers: int) -> None:
        """An area of so many buffers is among those to keep from running out."""
        self._enough = max(1, min(self._enough, buffers // 16))
        self._busy = min(self._busy, self._enough)

    def brought(self, buffers: int) -> None:
        """A turn brought so many."""
        if buffers < self._busy:
            self.us = 0
        elif buffers < self._enough:
            self.us = min(self._most_us, 2 * self.us or _FIRST_US)
        elif buffers > 2 * self._enough:
            self.us //= 2

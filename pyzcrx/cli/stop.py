"""How a command that serves is asked to end."""

from __future__ import annotations

import signal
from types import FrameType

import pyzcrx


class Stop:
    """SIGINT and SIGTERM, noted; they end the ring's wait through its wake-up descriptor."""

    def __init__(self, ring: pyzcrx.Ring) -> None:
        self.by: int | None = None
        """The first of the signals that came."""
        signal.set_wakeup_fd(ring.wakeup_fd, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    @property
    def asked(self) -> bool:
        """Whether one came."""
        return self.by is not None

    @staticmethod
    def ignore() -> None:
        """We are ending: further signals change nothing, also while Python winds up."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.by is None:
            self.by = number

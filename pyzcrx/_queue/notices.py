"""The kernel's notifications of an ifq: ALLOC_FAIL and COPY (Linux 7.3).

Each fires once and is silent until it is armed again, one call a notification. A NIC that
copies would fire at every turn, so arming again waits a while: the counts are of
notifications, not of what they tell of. Without a NIC neither is asked for: there is no page
pool to fail, and everything is copied.

Kernel: ``io_uring/zcrx.c:zcrx_send_notif()``, ``zcrx_arm_notif()`` (7.3).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyzcrx._ring.roles import NEVER
from pyzcrx.uapi import EventType

REARM_NS = 100_000_000


class Notices:
    """Counts notifications by kind; *arm* arms one kind again."""

    def __init__(self, arm: Callable[[EventType], None]) -> None:
        self._arm = arm
        self.fired: set[EventType] = set()
        """Kinds to be armed again."""
        self._armed_ns = 0
        self.counts = dict.fromkeys(EventType, 0)

    def _complete(self, res: int, flags: int) -> None:  # noqa: ARG002
        """A notification arrived; one of a kind we do not know is left alone."""
        if res in self.counts:
            kind = EventType(res)
            if kind not in self.fired:
                self.fired.add(kind)
                self.counts[kind] += 1

    def _drop(self, res: int) -> None:
        """Nothing to undo."""

    @property
    def wait_ns(self) -> int:
        """How long until one is to be armed again, or NEVER."""
        if not self.fired:
            return NEVER
        return max(1, self._armed_ns + REARM_NS - time.monotonic_ns())

    def settle(self) -> None:
        """Arm again what fired, once in a while."""
        if time.monotonic_ns() - self._armed_ns < REARM_NS:
            return
        self._armed_ns = time.monotonic_ns()
        for kind in tuple(self.fired):
            self._arm(kind)
            self.fired.discard(kind)

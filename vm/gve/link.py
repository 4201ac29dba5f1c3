"""The cable between the two NICs, with what befalls frames on it."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from vm.gve.faults import Faults
from vm.gve.frame import PORTED, Parsed, intact, segments


class Link:
    """Frames to one NIC: ``deliver(frame, parsed, mss)`` takes them there."""

    def __init__(
        self,
        faults: Faults,
        deliver: Callable[[bytes | bytearray, Parsed, int], None],
        count: Callable[[str], None],
    ) -> None:
        self.up = True
        self._faults = faults
        self._deliver = deliver
        self._count = count
        self._late: list[tuple[float, int, bytearray, Parsed]] = []
        self._order = itertools.count()

    def send(self, frame: bytes | bytearray, parsed: Parsed, mss: int) -> None:
        """A frame, or one that the sender's NIC has yet to segment: without faults it is not cut,
        as the receiver's would coalesce it again."""
        if not self.up:
            self._count("link_down")
        elif not self._faults.of_frames:
            self._deliver(frame, parsed, mss)
        else:
            for piece in segments(frame, parsed, mss) if mss else (bytearray(frame),):
                self._one(bytearray(piece), parsed)

    def _one(self, frame: bytearray, parsed: Parsed) -> None:
        faults = self._faults
        if faults.strikes(faults.drop):
            self._count("dropped")
            return
        if parsed.kind in PORTED and faults.strikes(faults.corrupt):
            where = faults.random.randrange(parsed.l4, len(frame))
            frame[where] ^= 1 << faults.random.randrange(8)
            self._count("corrupted")
            # A NIC verifies; it counts and drops (RX_DROPS_INVALID_CHECKSUM of gve_adminq.h).
            if not intact(frame, parsed):
                self._count("bad_checksum")
                return
        if faults.strikes(faults.late):
            self._count("late")
            due = time.monotonic() + faults.late_ms / 1000
            heapq.heappush(self._late, (due, next(self._order), frame, parsed))
            return
        self._deliver(frame, parsed, 0)

    def wait(self) -> float | None:
        """Seconds until a late frame is due."""
        return max(0.0, self._late[0][0] - time.monotonic()) if self._late else None

    def deliver_late(self) -> None:
        """Those that are due by now."""
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, frame, parsed = heapq.heappop(self._late)
            if self.up:
                self._deliver(frame, parsed, 0)

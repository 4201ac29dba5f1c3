"""Pressure at work: one ifq's marks, watched before every turn."""

from __future__ import annotations

import errno
import warnings
from collections import deque
from typing import TYPE_CHECKING

from pyzcrx.area import Area
from pyzcrx.errors import AreaHeld, FallbackWarning, KernelError, NotSupported, PressureWarning
from pyzcrx.holders import held_by_request, holders
from pyzcrx.memory import PAGE
from pyzcrx.pressure import Pressure, area_advice

if TYPE_CHECKING:
    from pyzcrx.ifq import Ifq
    from pyzcrx.receive import Request

_PAUSE_PATIENCE_NS = 10_000_000
"""Another thread may release, and wakes nobody."""

_LOOK_NS = 5_000_000
"""So seldom are all leases looked at."""

_LEAST_COPIES = 64 << 20


class Relief:
    """Copies, grows, raises or warns; and keeps the requests that are not read on."""

    def __init__(self, ifq: Ifq, pressure: Pressure | None) -> None:
        self._ifq = ifq
        self._pressure = pressure
        self._policy = pressure.policy if pressure else None
        self._limit_bytes = (pressure.limit_bytes if pressure else None) or (
            4 * ifq.area.size_bytes
            if self._policy == "grow"
            else max(_LEAST_COPIES, ifq.area.size_bytes)
        )
        self._warned = False
        self._looked_ns: dict[str, int] = {}
        self._can_grow = self._policy == "grow"
        self.grown: list[Area] = []
        """Areas added here, to be closed with the ifq."""
        self.paused: deque[tuple[Request, int]] = deque()
        """Requests that are not read on, each until it holds no more than so many bytes."""
        self._mark_all()

    def _mark_all(self) -> None:
        """Set the marks anew, the areas having changed."""
        ifq, account = self._ifq, self._ifq.account
        self._total = sum(area.size_bytes for area in ifq.areas) // ifq.rx_buf_len
        self._low = self._low_water()
        self.most = self._total - self._low
        """References that may be out before anything is done."""
        if self._policy == "copy":
            account.copy_above = self.most
            account.copies_limit = self._limit_bytes

    def _low_water(self) -> int:
        """Buffers that should be left of the areas; at most three quarters of them."""
        ifq = self._ifq
        if self._pressure is not None and self._pressure.low_water_bytes is not None:
            low = self._pressure.low_water_bytes // ifq.rx_buf_len
        elif ifq.interface is None:
            # No card: what copies need, and what the refill queue gathers before a flush.
            low = self._total // 4 + ifq.flush_at
        else:
            advice = area_advice(ifq.interface, rx_buf_len=ifq.rx_buf_len)
            low = advice.low_water_bytes // ifq.rx_buf_len
        return max(1, min(low, -(-self._total * 3 // 4)))

    def warn_if_small(self) -> None:
        """Say so if the card keeps more posted than the area has."""
        if self._ifq.interface is None:
            return
        advice = area_advice(self._ifq.interface, rx_buf_len=self._ifq.rx_buf_len)
        if self._ifq.area.size_bytes < advice.least_bytes:
            warnings.warn(
                f"the area has {self._ifq.area.size_bytes} bytes and the card may keep "
                f"{advice.least_bytes} posted: packets will be lost, and the connections slow; "
                f"give it {advice.size_bytes}, or shrink the ring (ethtool -G IF rx N)",
                PressureWarning,
                stacklevel=3,
            )

    # -- before every turn ----------------------------------------------------

    def settle(self) -> int:
        """Look at the marks; gives how long the turn may wait at most, in ns, or -1."""
        account = self._ifq.account
        if self.paused and self._due("resume"):
            self._resume()
        if account.leased > self.most:
            self._relieve()
        if account.copies_bytes and account.copies_bytes > self._copies_mark:
            self._pause()
        return _PAUSE_PATIENCE_NS if self.paused else -1

    def _due(self, what: str) -> bool:
        """Whether it is time to look at every lease again."""
        now = self._ifq.ring.now_ns
        if now - self._looked_ns.get(what, 0) < _LOOK_NS:
            return False
        self._looked_ns[what] = now
        return True

    def _relieve(self) -> None:
        if self._policy is None:
            self._warn()
        elif self._policy == "raise":
            self._raise()
        elif self._can_grow and self._grow():
            pass
        elif self._ifq.account.leased > self._leases_mark:
            self._pause()

    # Each request that is paused keeps what it holds, so the next is only paused
    # once half of what is left is gone as well.

    @property
    def _copies_mark(self) -> int:
        return self._limit_bytes - (self._limit_bytes >> len(self.paused) + 1)

    @property
    def _leases_mark(self) -> int:
        return self._total - (self._low >> len(self.paused) + 1)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._held()}; release sooner, use a larger area, or register with pressure=",
                PressureWarning,
                stacklevel=6,
            )

    def _raise(self) -> None:
        raise AreaHeld(f"{self._held()}; release some", holders(self._ifq, 10))

    def _held(self) -> str:
        ifq = self._ifq
        text = f"{ifq.account.leased} of {self._total} buffers of the area are held"
        by_request = held_by_request(ifq)
        if by_request:
            most = by_request[0]
            text += f", most by {most.request}: {most.size_bytes} bytes in {most.buffers}"
        longest = holders(ifq, 1)
        return text + (f"; longest {longest[0]}" if longest else "")

    # -- more memory ------------------------------------------------------------

    def _grow(self) -> bool:
        """One area more; False at the limit, or where the kernel cannot."""
        ifq = self._ifq
        unit = max(PAGE, ifq.rx_buf_len)
        room = self._limit_bytes - sum(area.size_bytes for area in ifq.areas)
        size_bytes = min(ifq.area.size_bytes, room) // unit * unit
        if size_bytes <= 0:
            return False
        huge = ifq.rx_buf_len > PAGE
        try:
            area = Area.anonymous(size_bytes, huge="thp" if huge else None)
            try:
                ifq.add_area(area)
            except BaseException:
                area.close()
                raise
        except KernelError as error:
            self._can_grow = False
            then = "it copies instead" if isinstance(error, NotSupported) else "it stays as it is"
            warnings.warn(f"the area cannot grow ({error}); {then}", FallbackWarning, stacklevel=7)
            if isinstance(error, NotSupported):
                self._policy = "copy"
                self._mark_all()
            return False
        self.grown.append(area)
        return True

    def area_added(self) -> None:
        """The ifq has one area more."""
        self._mark_all()

    # -- less to read -------------------------------------------------------------

    def _pause(self) -> None:
        """Read on no more from who holds most."""
        if not self._due("pause"):
            return
        for held in held_by_request(self._ifq):
            if held.request.pause(held.size_bytes // 2):
                return

    def park(self, request: Request, until_bytes: int) -> None:
        """Its cancellation came through."""
        self.paused.append((request, until_bytes))

    def _resume(self) -> None:
        for _ in range(len(self.paused)):
            request, until_bytes = self.paused[0]
            if request.stopping:
                self._ifq.ring.post(request.give_up(errno.ECANCELED))
            elif self._ifq.account.held(request.token) <= until_bytes:
                request.arm()
            else:
                self.paused.append((request, until_bytes))
            del self.paused[0]

    def give_up(self) -> None:
        """Nobody will release: the paused requests fail."""
        while self.paused:
            self._ifq.ring.post(self.paused[0][0].give_up(errno.ENOMEM))
            del self.paused[0]

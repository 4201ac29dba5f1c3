"""Pressure at work: one ifq's marks, watched before every turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pyzcrx._common.caller import warn
from pyzcrx._kernel.memory import PAGE
from pyzcrx._pressure.holders import Held, Holding, held_by_request, holders
from pyzcrx._pressure.policy import AreaAdvice, Pressure, area_advice
from pyzcrx._queue.area import Area
from pyzcrx._receive.request import Request, State
from pyzcrx._receive.waiting import Waiting
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.roles import NEVER
from pyzcrx.errors import (
    AreaHeld,
    FallbackWarning,
    KernelError,
    NoSuchInterface,
    NotSupported,
    PressureWarning,
)

_PAUSE_WAIT_NS = 10_000_000
"""Another thread may release, and wakes nobody."""

_LOOK_NS = 5_000_000
"""So seldom are all leases looked at."""

_LOOK_SHARE = 64

_LEAST_COPIES = 64 << 20

_STUCK_NS = 1_000_000_000
_STUCK_NOTICES = 3
"""So long, and so often told that the NIC found no buffer, while nothing arrived."""


class Relieved(Holding, Protocol):
    """An ifq, as policy sees it."""

    flush_at: int
    waiting: Waiting

    @property
    def ring(self) -> RingCore: ...
    @property
    def areas(self) -> list[Area]: ...
    @property
    def rx_buf_len(self) -> int: ...
    @property
    def area(self) -> Area: ...
    @property
    def interface(self) -> str | None: ...
    @property
    def ifindex(self) -> int | None: ...
    @property
    def nodev(self) -> bool: ...

    def add_area(self, area: Area, /) -> None:
        """Give the kernel one area more."""

    def make_way(self) -> bool:
        """Free what bytes take that no stream has read, in sockets and out of them.

        Gives whether there were any.
        """


class Relief:
    """Copies, grows, raises or warns; and keeps the requests that are not read on."""

    def __init__(self, ifq: Relieved, pressure: Pressure | None) -> None:
        self._ifq = ifq
        self._pressure = pressure
        self._policy = pressure.policy if pressure else None
        self._limit_bytes = (pressure.limit_bytes if pressure else None) or (
            4 * ifq.area.size_bytes
            if self._policy == "grow"
            else max(_LEAST_COPIES, ifq.area.size_bytes)
        )
        # No NIC keeps anything, and what a user says is meant so.
        self._exact = ifq.nodev or (pressure is not None and pressure.low_water_bytes is not None)
        self.warned = False
        """Whether the one PressureWarning was given."""
        self._raised_ns = -1
        """The clock of the turn after which AreaHeld was raised last."""
        self._due_ns: dict[str, int] = {}
        self._looked_used: dict[str, int] = {}
        self._can_grow = self._policy in ("copy", "grow")
        self._stuck_taken = -1
        self._stuck_since_ns = self._stuck_notices = 0
        self.grown: list[Area] = []
        """Areas added here, to be closed with the ifq."""
        self.narrowed: dict[Request, int] = {}
        """Requests whose sockets may hold little, each until it holds that many bytes at most."""
        self._mark_all()

    def _mark_all(self) -> None:
        """Set the marks anew, the areas having changed."""
        ifq, account = self._ifq, self._ifq.account
        self._total = sum(area.size_bytes for area in ifq.areas) // ifq.rx_buf_len
        kept = self._kept()
        # What sockets hold unread lies in a NIC's area as well: to them, half of it.
        self._low = kept if self._exact else max(kept, self._total // 2)
        account.most = self._total - self._low
        self._most_of_all = self._total - max(kept, self._low // 2)
        """And before what fair requests bring is copied, too."""
        if self._policy == "copy":
            account.copies_limit = self._limit_bytes
            account.copy_fair = self._most_of_all

    def _kept(self) -> int:
        """Buffers that are not for the consumer; at most three quarters of the areas."""
        ifq, pressure = self._ifq, self._pressure
        if pressure is not None and pressure.low_water_bytes is not None:
            kept = pressure.low_water_bytes // ifq.rx_buf_len
        elif ifq.interface is None:
            # No NIC: what copies need, and what the refill queue gathers before a flush.
            kept = self._total // 4 + ifq.flush_at
        else:
            kept = self._advice().low_water_bytes // ifq.rx_buf_len
        return max(1, min(kept, -(-self._total * 3 // 4)))

    def _advice(self) -> AreaAdvice:
        ifq = self._ifq
        try:
            return area_advice(ifq.ifindex, rx_buf_len=ifq.rx_buf_len)
        except NoSuchInterface:  # moved to another namespace, or taken away
            return area_advice(rx_buf_len=ifq.rx_buf_len)

    def measure(self, request: Request | None) -> None:
        """What *request* brought is about to be leased: say from where on to copy it."""
        if self._policy == "copy":
            fair = request is not None and not request._greedy
            self._ifq.account.copy_above = self._most_of_all if fair else self._ifq.account.most

    def warn_if_small(self) -> None:
        """Say so if the NIC keeps more posted than the area has."""
        if self._ifq.interface is None:
            return
        advice = self._advice()
        if self._ifq.area.size_bytes < advice.least_bytes:
            warn(
                f"the area has {self._ifq.area.size_bytes} bytes and the NIC may keep "
                f"{advice.least_bytes} posted: packets will be lost, the connections slow, and "
                f"what must be copied finds no room (AreaExhausted); give it {advice.size_bytes}, "
                "or shrink the ring (ethtool -G IF rx N)",
                PressureWarning,
            )

    @property
    def slowed(self) -> bool:
        """Whether some socket is to be made as it was, or read on."""
        return bool(self._ifq.waiting.paused or self.narrowed)

    # -- before every turn ----------------------------------------------------

    @property
    def wait_ns(self) -> int:
        """How long a turn may wait although nothing arrives, or NEVER."""
        return _PAUSE_WAIT_NS if self._ifq.waiting.paused else NEVER

    def settle(self) -> None:
        """Look at the marks."""
        account = self._ifq.account
        if self.slowed and self._due("resume"):
            with self._look("resume"):
                self._resume()
                self._widen()
        if account.leased > account.most:
            self._relieve()
        if account.copies_bytes:
            self._slow("copies", account.copies_bytes, self._limit_bytes, self._limit_bytes)

    def _due(self, what: str) -> bool:
        """Whether it is time to look at every lease again."""
        return self._ifq.ring.columns.now_ns >= self._due_ns.get(what, 0)

    @contextmanager
    def _look(self, what: str) -> Iterator[None]:
        """A small part of the time at most, however many leases there are."""
        began_ns = time.monotonic_ns()
        yield
        spent_ns = time.monotonic_ns() - began_ns
        self._due_ns[what] = self._ifq.ring.columns.now_ns + _LOOK_NS + _LOOK_SHARE * spent_ns

    def _relieve(self) -> None:
        if self._policy is None:
            self._warn()
        elif self._policy == "raise":
            self._raise()
        elif self._policy == "grow" and self._can_grow and self._grow():
            pass
        else:
            if self._policy == "copy" and self._due("greedy"):
                with self._look("greedy"):
                    self._find_greedy()
            self._slow("leases", self._ifq.account.leased, self._total, self._low)

    def _find_greedy(self) -> None:
        """Those that hold most, until the rest would be no trouble: only theirs is copied."""
        found = held_by_request(self._ifq, copies=False)
        rest = sum(held.buffers for held in found)
        for request, buffers, _ in found:
            request._greedy = 2 * rest > self._ifq.account.most
            rest -= buffers

    def _slow(self, what: str, used: int, whole: int, spare: int) -> None:
        """Once a quarter of *spare* is used, narrow who holds most; at half, pause it.

        What its peer was allowed to send before is read first, so that the paused socket
        holds little of the area; but not beyond three quarters. A request that is
        paused keeps what it holds, so the next one's marks are in what is left.
        """
        left, spare = whole - used, spare >> len(self._ifq.waiting.paused)
        if 4 * left >= 3 * spare:
            return
        if used - self._looked_used.get(what, 0) < spare // 16 and not self._due(what):
            return
        self._looked_used[what] = used
        with self._look(what):
            self._slow_one(left, spare)

    def _slow_one(self, left: int, spare: int) -> None:
        for request, _, size_bytes in held_by_request(self._ifq):
            if not self._ifq.ring.operation(request.token):
                continue  # paused, or about to be
            if request._rcvbuf is None:  # also where a limit widened it
                request._narrow()
                self.narrowed[request] = size_bytes // 2
            if 4 * left < spare or (2 * left < spare and request._drained):
                request._pause(size_bytes // 2)
                self.narrowed[request] = size_bytes // 2
            return

    def _warn(self) -> None:
        if not self.warned:
            self.warned = True
            held = self._held(held_by_request(self._ifq))
            warn(
                f"{held}; release sooner, use a larger area, or register with pressure=",
                PressureWarning,
            )

    def _raise(self) -> None:
        """Once a turn while sends are in flight: only a turn brings their buffers back."""
        ring = self._ifq.ring
        if ring.columns.now_ns == self._raised_ns and ring.lends:
            return
        self._raised_ns = ring.columns.now_ns
        by_request = held_by_request(self._ifq)
        text = f"{self._held(by_request)}; release some"
        raise AreaHeld(text, holders(self._ifq, 10), by_request)

    def _held(self, by_request: list[Held]) -> str:
        ifq = self._ifq
        text = f"{ifq.account.leased} of {self._total} buffers of the area are held"
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
        try:
            area = Area.anonymous(size_bytes)
            try:
                ifq.add_area(area)
            except BaseException:
                area.close()
                raise
        except KernelError as error:
            self._can_grow = False
            copies = self._policy == "grow" and isinstance(error, NotSupported)
            then = "it copies instead" if copies else "it stays as it is"
            warn(f"the area cannot grow ({error}); {then}", FallbackWarning)
            if copies:
                self._policy = "copy"
                self._mark_all()
            return False
        self.grown.append(area)
        return True

    def card_starved(self) -> None:
        """The NIC found no buffer: see whether it ever will.

        A segment that waits in its socket keeps its buffer. With all of the area in such
        nothing can arrive. Those of streams that are not read are received and copied out,
        and with them what streams hold unread. Segments that wait for the one before theirs
        stay until TCP gives the connections up: only more memory helps.
        """
        account, now = self._ifq.account, self._ifq.ring.columns.now_ns
        if account.taken != self._stuck_taken:
            self._stuck_taken, self._stuck_since_ns = account.taken, now
            self._stuck_notices = 0
        self._stuck_notices += 1
        if self._stuck_notices < _STUCK_NOTICES or now - self._stuck_since_ns < _STUCK_NS:
            return
        self._stuck_since_ns, self._stuck_notices = now, 0
        if self._ifq.make_way() or account.leased > account.most:
            return  # what the consumer holds is settle()'s to relieve
        if not (self._can_grow and self._grow()) and not self.warned:
            self.warned = True
            warn(
                f"all {self._total} buffers of the area lie in sockets, in segments that wait for "
                "lost ones, which find none: give it a larger area, or register with pressure=",
                PressureWarning,
            )

    def area_added(self) -> None:
        """The ifq has one area more."""
        self._mark_all()

    # -- less to read -------------------------------------------------------------

    def _resume(self) -> None:
        held = self._ifq.account.held
        self._ifq.waiting.go_on(
            State.PAUSED, lambda request: held(request.token) <= (request._pause_at or 0)
        )

    def _widen(self) -> None:
        held = self._ifq.account.held
        for request, until_bytes in list(self.narrowed.items()):
            if request.over or request._stopping or held(request.token) <= until_bytes:
                request._widen()
                del self.narrowed[request]

    def closed_by_ring(self) -> None:
        """Sockets as they were; the memory added here goes."""
        for request in self.narrowed:
            request._widen()
        self.narrowed.clear()
        for area in self.grown:
            area.close()

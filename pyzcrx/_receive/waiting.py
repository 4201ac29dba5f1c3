"""Requests of one ifq that are not armed, and what each waits for.

=========  =================================================  =================================
state      why                                                armed again
=========  =================================================  =================================
STARVED    ENOMEM: no free buffer to copy into                when buffers came back
POSTPONED  ENOSPC: the completion queue was full              when the overflow list is empty
PAUSED     pressure: it holds too much of the area            when it holds little enough
=========  =================================================  =================================

A request that the kernel has, or that is over, is in none of them. The state is in the request;
here is the order in which they waited.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable

from pyzcrx._lease import Account
from pyzcrx._receive.protocol import FRUITLESS_FLUSHES
from pyzcrx._receive.request import Request, State
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.roles import NEVER

SHORT_NS = 1_000_000
_HOPELESS_NS = 1_000_000_000
"""How long all of the area may be out, with nothing else going on, before requests fail."""


class Waiting:
    """Arms them again, or fails them. Owner thread only.

    Each step can be interrupted by a signal handler that raises, and is then done once more:
    a request leaves its queue last.
    """

    def __init__(
        self, ring: RingCore, account: Account, make_way: Callable[[], bool] = lambda: False
    ) -> None:
        """make_way: frees what streams have not read, and gives whether there was anything."""
        self._ring = ring
        self._make_way = make_way
        self._account = account
        self._queues: dict[State, deque[Request]] = {
            state: deque() for state in (State.STARVED, State.POSTPONED, State.PAUSED)
        }
        self.starved = self._queues[State.STARVED]
        self.postponed = self._queues[State.POSTPONED]
        self.paused = self._queues[State.PAUSED]
        self._given_seen = self._given_ns = 0
        self._taken_seen = 0
        self._hopes = self._hoped_ns = 0

    def add(self, request: Request, state: State) -> None:
        """*request* waits for what *state* says."""
        if state is State.STARVED and not self.starved:
            self._given_ns = time.monotonic_ns()
        request._state = state
        self._queues[state].append(request)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def requests(self) -> list[Request]:
        """All of them."""
        return [request for queue in self._queues.values() for request in queue]

    @property
    def wait_ns(self) -> int:
        """How long a turn may wait although nothing arrives, or NEVER.

        Policy decides for the paused ones (:attr:`pyzcrx._pressure.relief.Relief.wait_ns`).
        """
        if self.postponed:
            return 0
        # Another thread may release, and wakes nobody.
        return SHORT_NS if self.starved else NEVER

    # -- armed again --------------------------------------------------------------

    def go_on(self, state: State, ready: Callable[[Request], bool]) -> None:
        """Arm those in *state* that are *ready*, in their order; end those to be cancelled."""
        queue = self._queues[state]
        for _ in range(len(queue)):
            request = queue[0]
            if request._stopping:
                self._ring.post(request._give_up(errno.ECANCELED))
            elif ready(request):
                request._arm()
            else:
                queue.append(request)
            del queue[0]

    def fail(self, state: State) -> None:
        """What those in *state* wait for will not come."""
        queue = self._queues[state]
        while queue:
            self._ring.post(queue[0]._give_up(errno.ENOMEM))
            del queue[0]

    def go_on_postponed(self) -> None:
        """A few at a time: all at once would overflow the completion queue again."""
        if self._ring.columns.overflow:
            return
        left = max(1, self._ring.columns.capacity // 4)

        def ready(_request: Request) -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        self.go_on(State.POSTPONED, ready)

    def go_on_starved(self, given: int) -> None:
        """As many as buffers came back, of *given* ever, first come first served.

        More would only meet ENOMEM again, each at the price of a request.
        """
        came_back = given - self._given_seen
        if came_back:
            self._given_seen = given
            self._given_ns = time.monotonic_ns()
        armed = 0

        def ready(request: Request) -> bool:
            nonlocal armed
            feeds = armed < came_back or request._protocol.worth_another_flush
            armed += feeds
            return feeds

        self.go_on(State.STARVED, ready)
        if self.starved and not armed and self._account.leased == 0 and not self._given_since():
            self._hope()

    def _hope(self) -> None:
        """Nothing is out and nothing came back since we looked.

        Its ENOMEM may be older than what came back last, so arm the first again; when
        that brings nothing to anybody, nothing will come.
        """
        taken = self._account.taken
        if self._ring.columns.overflow or self.postponed or self._ring.posted:
            return  # what is out waits there, or goes to who could not use it yet
        now_ns = time.monotonic_ns()
        if now_ns - self._hoped_ns < SHORT_NS:
            return  # turns that do not wait leave the kernel no time to take back what it was given
        self._hoped_ns = now_ns
        if taken != self._taken_seen:
            self._taken_seen, self._hopes = taken, 0
        if self._hopes >= FRUITLESS_FLUSHES:
            if not self._make_way():
                self.fail(State.STARVED)
            return
        self._hopes += 1
        self.starved[0]._arm()
        del self.starved[0]

    # -- given up -----------------------------------------------------------------

    def abandon(self) -> None:
        """The caller would wait for ever, and nothing is in flight.

        Another thread may still release, and gets a while; or has since we looked.
        """
        alone = threading.active_count() == 1
        if alone:
            self.fail(State.PAUSED)
        if self._given_since():
            return
        hopeless = alone or time.monotonic_ns() - self._given_ns > _HOPELESS_NS
        if hopeless and not self._make_way():
            self.fail(State.STARVED)

    def _given_since(self) -> bool:
        """Whether buffers came back, from any thread, since starved requests were armed."""
        return self._account.given != self._given_seen

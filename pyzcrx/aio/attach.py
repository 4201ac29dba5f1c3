"""A ring whose turns an event loop takes: any asyncio loop, by the ring's descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from pyzcrx._receive.delivery import Delivery
from pyzcrx._receive.events import Event
from pyzcrx._receive.request import Request
from pyzcrx.errors import ClosedError
from pyzcrx.ring import Ring


class Ending(Protocol):
    """A request that receives or sends."""

    @property
    def over(self) -> bool: ...


class Attached:
    """A ring on a loop: made by :func:`attach`, until :meth:`close` or the ring is closed.

    Thread of the loop only, which must be the ring's.
    """

    def __init__(self, delivery: Delivery, loop: asyncio.AbstractEventLoop) -> None:
        """Use :func:`attach`."""
        self.loop = loop
        """What takes the ring's turns."""
        self._delivery = delivery
        self._inboxes = delivery.inboxes
        self._own = getattr(loop, "_turns", None) is delivery
        """Whether the loop takes the ring's turns anyway, with a selector over it."""
        self._fd = -1 if self._own else delivery.core.fileno()
        self._watching = False
        self._readers: dict[Request, asyncio.Future[None]] = {}
        """Who waits for more of a request."""
        self._ends: dict[Ending, Callable[[], None]] = {}
        """What to do once a request is over."""
        self._events: asyncio.Future[None] | None = None
        """Who waits for an event that is no stream's."""
        self.closed = False
        """Whether the loop takes no more turns of the ring."""
        if not self._own:
            self._inboxes.changed = []
        self._watch()
        delivery.watchers.append(self.close)
        delivery.attached = self

    def _watch(self) -> None:
        if not self._watching and not self._own:
            self.loop.add_reader(self._fd, self._turn)
            self._watching = True

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)

    # -- turns ------------------------------------------------------------------

    def _turn(self) -> None:
        """The ring's descriptor is readable."""
        try:
            self._delivery.collect(0)
        except Exception as error:
            self._fail(error)
        finally:
            self._wake()

    def _wake(self) -> None:
        """A turn was taken: wake those that it brought something for."""
        changed, readers, ends = self._inboxes.changed, self._readers, self._ends
        while changed:
            request = changed[0]
            reader = readers.pop(request, None)
            if reader is None:
                inbox = request._inbox
                if inbox is not None and inbox.notify is not None:
                    inbox.notify()
            elif not reader.done():
                reader.set_result(None)
            if ends and request in ends and request.over:
                ends.pop(request)()
            del changed[0]  # last, should a signal handler raise
        if self._events is not None and (self._delivery.waiting or not self._delivery.busy):
            events, self._events = self._events, None
            if not events.done():
                events.set_result(None)

    def _fail(self, error: Exception) -> None:
        """A turn raised: whoever waits is told, and the next that waits has turns taken again."""
        self._unwatch()  # it would raise again at once, for ever
        waiting = [*self._readers.values(), *filter(None, [self._events])]
        self._readers.clear()
        self._events = None
        told = False
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                told = True
        if not told:
            context = {"message": "a turn of the ring failed", "exception": error}
            self.loop.call_exception_handler(context)

    # -- waiting ------------------------------------------------------------------

    def _change(self, request: Request) -> asyncio.Future[None]:
        """What is done once a turn brought something for *request*; one at a time."""
        if self.closed:
            self._check_open()
        if not self._own:
            self._watch()
        future: asyncio.Future[None] = self.loop.create_future()
        self._readers[request] = future
        return future

    def _nudge(self, request: Request) -> None:
        """Have who waits for *request* look again."""
        reader = self._readers.pop(request, None)
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _when_over(self, request: Ending, then: Callable[[], None]) -> None:
        """Call *then* once *request* is over; at once if it is."""
        if request.over or self.closed:
            then()
        else:
            self._watch()
            self._ends[request] = then

    async def events(self) -> AsyncIterator[Event]:
        """The ring's events that are no stream's, as they happen; ends when no request is left.

        As :meth:`pyzcrx.Ring.events`: each Buffer must be released. One at a time.
        """
        while True:
            for event in self._delivery.events(0):
                yield event
            if not self._delivery.busy:
                return
            self._check_open()
            self._watch()
            self._events = self.loop.create_future()
            await self._events

    # -- the end --------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the ring was closed, or taken from this loop")

    def close(self) -> None:
        """Take no more turns of the ring: readers that wait get ClosedError. Idempotent.

        The ring stays open.
        """
        if self.closed:
            return
        self.closed = True
        self._unwatch()
        if not self._own:
            self._inboxes.changed = None
        if self.close in self._delivery.watchers:
            self._delivery.watchers.remove(self.close)
        self._delivery.attached = None
        for future in (*self._readers.values(), *filter(None, [self._events])):
            if not future.done():
                future.set_exception(ClosedError("the ring was closed, or taken from this loop"))
        self._readers.clear()
        self._events = None
        ends, self._ends = list(self._ends.values()), {}
        for then in ends:
            self.loop.call_soon(then) if not self.loop.is_closed() else then()

    def __repr__(self) -> str:
        return f"<Attached {'closed' if self.closed else self._delivery.core}>"


def attach(ring: Ring, loop: asyncio.AbstractEventLoop | None = None) -> Attached:
    """Have *loop* (None: the running one) take the turns of *ring*, until either is closed.

    For any loop that has ``add_reader``; asyncio's own is the one that is tested. A ring is
    attached to one loop; asked again, gives the same object. :func:`start_server` and
    :func:`open_connection` do it themselves.

    Raises WrongThread where the ring is another thread's, ClosedError, RuntimeError where
    no loop runs or the ring is attached to another loop that is open.
    """
    return attach_delivery(ring._delivery, loop)


def attach_delivery(delivery: Delivery, loop: asyncio.AbstractEventLoop | None = None) -> Attached:
    """As :func:`attach`, by the ring's own part that brings events to users."""
    loop = loop or asyncio.get_running_loop()
    found = delivery.attached
    if isinstance(found, Attached):
        if found.loop is loop:
            return found
        if not found.loop.is_closed():
            raise RuntimeError("the ring is attached to another event loop")
        found.close()
    return Attached(delivery, loop)

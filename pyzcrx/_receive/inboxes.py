"""To whom events go: to the stream of their request, else to whoever takes the ring's events.

A request that is read by a stream has ``inbox``, its Chunks. Whoever turns the ring fills the
inboxes of all, so no stream loses what another one's turn brought.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import suppress

from pyzcrx._kernel.memory import PAGE
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.events import Event, Limit
from pyzcrx._receive.request import Attachment, Request, State
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import ZcrxError


def _forgotten(request: Request) -> bool:
    return request._inbox is not None and request._inbox.abandoned


class Inboxes:
    """The requests of one ring that streams read. Owner thread only, but for :meth:`abandon`."""

    def __init__(self, core: RingCore) -> None:
        self._core = core
        self._requests: weakref.WeakSet[Request] = weakref.WeakSet()
        self.to_end: list[Request] = []
        """Those that the next turn cancels: nobody reads them any more."""
        self.ever: list[bool] = []
        """Not empty from the first stream on: then every turn may have something for one."""
        self.changed: list[Request] | None = None
        """Requests whose inboxes turns filled, for an event loop to wake their readers, which
        empties it; None: no loop does."""

    def __bool__(self) -> bool:
        # Not without a stream: len() of a WeakSet is a call of Python, in every turn.
        return bool(self.ever) and len(self._requests) > 0

    def add(self, request: Request, inbox: Chunks) -> None:
        """What *request* brings goes to *inbox*."""
        request._inbox = inbox
        if not self.ever:
            self.ever += (True,)
        self._requests.add(request)
        self._core.readers = len(self._requests)

    def discard(self, request: Request) -> None:
        """Its stream was closed: what *request* still brings goes nowhere."""
        if request._inbox is not None:
            request._inbox.abandoned = True
        request._leave()
        self._requests.discard(request)
        self._core.readers = len(self._requests)

    def abandon(self, request: Request) -> None:
        """Its stream was forgotten. From any thread, at any time: the next turn ends it."""
        if request._inbox is not None:
            request._inbox.abandoned = True
            self.to_end += (request,)

    def notify(self, request: Request) -> None:
        """An event loop, if there is one, looks at *request*."""
        if self.changed is not None:
            self.changed += (request,)

    @property
    def in_flight(self) -> int:
        """Requests that are not over and that somebody still reads."""
        return sum(not (request.over or _forgotten(request)) for request in self._requests)

    @property
    def abandoned(self) -> bool:
        """Whether the next turn has some to end."""
        return bool(self.to_end)

    def sort(self, posted: list[Event], rest: list[Event]) -> None:
        """Move the events of *posted* to their inboxes, those without one to *rest*.

        Interrupted, it goes on where it was: an event leaves as it arrives.
        """
        while posted:
            event = posted[0]
            inbox: Chunks | None = getattr(event.request, "_inbox", None)
            # No call from here on.
            if inbox is None:
                rest += (event,)
            else:
                inbox.incoming += (event,)  # type: ignore[arg-type]  # a receive request's
                if self.changed is not None:
                    self.changed += (event.request,)  # type: ignore[arg-type]
            del posted[0]

    def relieve(self, receivers: Iterable[object]) -> None:
        """Let no inbox of *receivers*, those of a turn, hold more of the area than it may."""
        self._core.readers = len(self._requests)  # some may have been forgotten
        for receiver in dict.fromkeys(receivers):  # one may have many runs
            inbox: Chunks | None = getattr(receiver, "_inbox", None)
            if inbox is not None:
                if self.changed is not None:
                    self.changed += (receiver,)  # type: ignore[arg-type]  # it has an inbox
                # No more than are out. To count its own takes long.
                leased: int = receiver._ifq.account.leased  # type: ignore[attr-defined]
                if inbox.abandoned or leased > inbox.most_buffers:
                    inbox.relieve()
        while self.to_end:
            request = self.to_end[0]
            if request._inbox is not None:
                request._inbox.clear()
            request.cancel()
            request._leave()
            del self.to_end[0]

    def spill(self, ifq: Attachment) -> None:
        """The area of *ifq* runs low: copy out of it what no stream has read."""
        for request in list(self._requests):
            if request._ifq is ifq and request._inbox is not None:
                request._inbox.spill()

    def make_way(self, ifq: Attachment, area_bytes: int) -> bool:
        """Nothing arrives, as no buffer is free: receive what no stream of *ifq* has asked for.

        It is copied out, as is all that streams hold unread, and those sockets hold little from
        now on: otherwise the stream that is read would wait for ever for bytes that find no
        buffer. So it would if bytes that came before the queue was bound, and are to be copied
        into the area, have all of it behind them: they are received without it. Gives whether
        there was anything to free.
        """
        ours = [request for request in list(self._requests) if request._ifq is ifq]
        asleep = [each for each in ours if each._over is Limit and not each._stopping]
        held = ifq.account.leased
        for request in asleep:
            inbox = request._inbox
            limit = 0 if inbox is None else inbox.limit(request.received)
            if inbox is None or not limit:
                continue
            # A socket that its user closed is the reader's to report.
            with suppress(ZcrxError):
                request.resume(limit)
                request._bound(max(PAGE, area_bytes // (8 * len(asleep))))
            inbox.limited = False
        self.spill(ifq)
        plain = [self._take_plain(each) for each in ours if each._state is State.STARVED]
        return bool(asleep) or any(plain) or ifq.account.leased < held

    def _take_plain(self, request: Request) -> bool:
        """Receive without the area what lies at the front of its socket in the kernel's memory."""
        inbox = request._inbox
        if inbox is None or not request._take_plain(inbox):
            return False
        self.notify(request)
        return True

    def close(self) -> None:
        """The ring has gone: nobody will read on."""
        for request in list(self._requests):
            if request._inbox is not None:
                request._inbox.clear()
            request._leave()
        self._requests.clear()
        self.to_end.clear()

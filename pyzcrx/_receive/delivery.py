"""To whom events go: to the stream of their request, else to whoever takes the ring's events.

A request that is read by a stream has ``inbox``, its Chunks. Whoever turns the ring fills the
inboxes of all, so no stream loses what another one's turn brought.
"""

from __future__ import annotations

import weakref

from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.events import Event
from pyzcrx._receive.request import Request


class Delivery:
    """The inboxes of one ring."""

    def __init__(self) -> None:
        self._inboxes: weakref.WeakSet[Chunks] = weakref.WeakSet()

    def __bool__(self) -> bool:
        return len(self._inboxes) > 0

    def add(self, request: Request, inbox: Chunks) -> None:
        """What *request* brings goes to *inbox*, as long as anybody has that."""
        request.inbox = inbox
        self._inboxes.add(inbox)

    def discard(self, inbox: Chunks) -> None:
        """Its request is over."""
        self._inboxes.discard(inbox)

    def sort(self, posted: list[Event], rest: list[Event]) -> None:
        """Move the events of *posted* to their inboxes, those without one to *rest*.

        Interrupted, it goes on where it was: an event leaves as it arrives.
        """
        while posted:
            event = posted[0]
            inbox: Chunks | None = getattr(event.request, "inbox", None)
            # No call from here on.
            if inbox is None:
                rest += (event,)
            else:
                inbox.incoming += (event,)
            del posted[0]

    def relieve(self) -> None:
        """Let no inbox hold more of the area than it may."""
        for inbox in list(self._inboxes):
            inbox.relieve()

    def close(self) -> None:
        """The ring has gone: nobody will read on."""
        for inbox in list(self._inboxes):
            inbox.clear()
        self._inboxes.clear()

"""All sends of a ring: their order, their bounds, their figures, and how they end with it.

Bytes of a zero-copy send belong to the NIC until the notification. A ring that closes
before that gets no notification any more, so whatever is written to that memory afterwards
may be what the peer reads. Hence three steps: the ring waits for the notifications; then it
resets the connections that are left, which brings them at once; and if some are still out,
their memory is never used again (:func:`pyzcrx._queue.claims.abandon`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from pyzcrx._kernel._ffi import lib
from pyzcrx._lease import Descriptor, Iovec
from pyzcrx._queue.claims import abandon
from pyzcrx._ring.core import RingCore
from pyzcrx._send.stats import SendStats

_Flying = dict[int, tuple[Iovec, Descriptor]]


class Sending(Protocol):
    """A send, as what orders and ends them sees it."""

    def _begin(self) -> None: ...
    def _closed_by_ring(self) -> None: ...


def _reset(flying: _Flying) -> None:
    for _, held in flying.values():
        lib.pz_disconnect(held.number)


def _dropped(flying: _Flying) -> None:
    """The ring went without close()."""
    _reset(flying)
    for pieces, _ in flying.values():
        abandon(pieces)


class Traffic:
    """The sends of one ring. area_bytes: gives the size of all its areas."""

    def __init__(self, ring: RingCore, area_bytes: Callable[[], int]) -> None:
        self.stats = SendStats()
        self.flying: _Flying = {}
        """By token of the request: what the NIC may read, and by which socket it is sent."""
        self.lines: dict[tuple[int, int], list[Sending]] = {}
        """By socket: the send that is in progress, and those that wait for it."""
        self.sends: dict[int, Sending] = {}
        """By number, those that hold buffers."""
        self._area_bytes = area_bytes
        self._most_requests = max(1, ring.columns.capacity // 4)
        ring.ending.reset_sends = self.reset
        self._finalizer = weakref.finalize(ring, _dropped, self.flying)
        self._finalizer.atexit = False

    def has_room(self, size_bytes: int) -> bool:
        """Whether *size_bytes* more may wait for a notification.

        At most half of the area does, or too little would be left to receive into.
        """
        most_bytes = self._area_bytes() // 2
        return (
            self.stats.unnotified_bytes + size_bytes <= most_bytes
            and len(self.flying) < self._most_requests
        )

    def enter(self, send: Sending, number: int, held: Descriptor) -> tuple[int, int]:
        """Begin *send*, or queue it behind those of the same socket. Gives the socket's key.

        One is in progress at a time: two would mix their bytes.
        """
        key = held.file
        line = self.lines.setdefault(key, [])
        if not line:
            try:
                send._begin()
            except BaseException:
                del self.lines[key]
                raise
        line.append(send)
        self.sends[number] = send
        return key

    def reset(self) -> bool:
        """End the connections of what was not notified. Gives whether there are any."""
        _reset(self.flying)
        return bool(self.flying)

    def die(self) -> None:
        """This is a forked child: what is in flight is the parent's."""
        self._finalizer.detach()

    def closed_by_ring(self) -> None:
        """No completion comes any more."""
        self._finalizer.detach()
        self.stats.abandoned_bytes = self.stats.unnotified_bytes
        _dropped(self.flying)
        self.flying.clear()
        for send in list(self.sends.values()):
            send._closed_by_ring()
        self.sends.clear()
        self.lines.clear()

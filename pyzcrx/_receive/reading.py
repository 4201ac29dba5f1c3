"""One connection as its reader has it: what arrived, and how far it is received.

Without I/O: the blocking stream and the streams of event loops drive it.
"""

from __future__ import annotations

from pyzcrx._common.stalled import RELIEF_BYTES
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.inboxes import Inboxes
from pyzcrx._receive.request import Request


class Reading:
    """A request and its Chunks. Owner thread of the ring only."""

    __slots__ = ("_half_bytes", "_inboxes", "_rx_buf_len", "chunks", "request", "shared_bytes")

    def __init__(
        self,
        inboxes: Inboxes,
        request: Request,
        room_bytes: int,
        rx_buf_len: int,
        most_bytes: int | None = None,
    ) -> None:
        """*request* was put off: the first :meth:`go_on` arms it.

        most_bytes: it is received no further; None: to its end.
        """
        self.request = request
        self.chunks = Chunks()
        self._rx_buf_len = rx_buf_len
        self._half_bytes = room_bytes // 2
        """The other half of its room is for the socket."""
        self.shared_bytes = 0
        """What the ring's readers may receive at once together, where that is more for each."""
        self._receive_at_once(self._half_bytes)
        self.chunks.limited = True
        self.chunks.most_bytes = most_bytes
        self._inboxes = inboxes
        account = request._ifq.account
        account.crowded_above = min(account.crowded_above, self.chunks.most_buffers)
        inboxes.add(request, self.chunks)

    def _receive_at_once(self, size_bytes: int) -> None:
        """With so many its request is armed; twice as many may lie in the area unread."""
        self.chunks.at_once_bytes = max(1, size_bytes)
        self.chunks.most_buffers = max(1, 2 * size_bytes // self._rx_buf_len)

    def go_on(self) -> None:
        """Receive on, if there is room."""
        chunks, request = self.chunks, self.request
        if not chunks.limited:
            return
        if request._stopping:
            request._ifq.check_receives()  # the NIC may be gone, and nobody else says so
            return
        if chunks.nbytes > chunks.at_once_bytes:
            chunks.spill()  # one call wants more than the reader may hold
        readers = request._ifq.ring.readers
        if self.shared_bytes:  # a limit that is reached costs a turn
            share_bytes = self.shared_bytes // max(1, readers)
            self._receive_at_once(max(self._half_bytes, share_bytes))
        chunks.among = readers if chunks.most_bytes is None else -1
        # Once more, after an interruption: it may be under way.
        if request.over:
            request.resume(chunks.limit(request.received))
        chunks.limited = False

    def relieve(self) -> None:
        """Receive some on, although what there is was not read: it is copied out of the area.

        As far as there is no more than twice what is received at once. For who cannot send:
        see :mod:`pyzcrx._common.stalled`.
        """
        chunks, request = self.chunks, self.request
        enough = chunks.nbytes >= 2 * chunks.at_once_bytes
        if enough or not chunks.limited or not request.over or request._stopping:
            return
        chunks.spill()
        limit = min(RELIEF_BYTES, chunks.limit(request.received))
        if limit > 0:
            request.resume(limit)
            chunks.limited = False

    def notify(self) -> None:
        """Have the event loop look at it, as if a turn had brought something."""
        self._inboxes.notify(self.request)

    def end(self) -> None:
        """The request is over, or its ring closed: give everything back."""
        self.chunks.patient = False  # its iterators have to ask
        try:
            self.chunks.clear()
        finally:
            self.leave()

    def leave(self) -> None:
        """The request is over: what arrived stays for the reader."""
        self._inboxes.discard(self.request)

    def forget(self) -> None:
        """The reader was forgotten. From any thread: the next turn ends the request."""
        self._inboxes.abandon(self.request)

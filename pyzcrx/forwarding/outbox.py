"""What was received and is to be sent on by one socket, in order."""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice

from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.batch import Run
from pyzcrx._send.send import Send
from pyzcrx.ring import Ring

_SEND_BUFFERS = 256
"""Buffers of one send at most."""

_PIECE_BYTES = 4096
"""Short pieces are gathered up to this."""


class Outbox:
    """Buffers that wait, the send in progress, and those that the NIC may still read.

    rx_buf_len: of the ifq that brings them.
    """

    __slots__ = ("_queue", "_rx_buf_len", "_unnotified", "sending", "unsent_bytes")

    def __init__(self, rx_buf_len: int) -> None:
        self._rx_buf_len = rx_buf_len
        self._queue: deque[Buffer | bytes] = deque()
        self._unnotified: deque[Send] = deque()
        """Sends that were accepted, the last of which the NIC may still read."""
        self.sending: Send | None = None
        """The one that was not accepted yet."""
        self.unsent_bytes = 0
        """Bytes that wait here, those of :attr:`sending` among them."""

    def take(self, run: Run) -> None:
        """*run* is to be sent."""
        if run.size_bytes < (run.stop - run.start) * self._rx_buf_len // 4:
            self._gather(run)
        else:
            self._queue.extend(run.buffers())
        self.unsent_bytes += run.size_bytes

    def _gather(self, run: Run) -> None:
        """Copy what would hold far more of the area than its bytes, were it to wait here."""
        data = b"".join(run.views())
        last = self._queue[-1] if self._queue else None
        if isinstance(last, bytes) and len(last) + len(data) <= _PIECE_BYTES:
            self._queue[-1] = last + data
        else:
            self._queue.append(data)

    def send(
        self, ring: Ring, sock: socket.socket | int, zero_copy: bool | None, context: object
    ) -> None:
        """Send what waits, once the send before was accepted.

        Raises KernelError where the ring takes no request; then nothing is lost.
        """
        if self.sending is not None or not self._queue:
            return
        queue = self._queue
        pieces = tuple(queue if len(queue) <= _SEND_BUFFERS else islice(queue, _SEND_BUFFERS))
        self.sending = ring.send(sock, pieces, zero_copy=zero_copy, context=context)
        if len(pieces) == len(queue):
            queue.clear()
        else:
            for _ in pieces:
                queue.popleft()

    def sent(self, send: Send, size_bytes: int) -> None:
        """*send* was accepted, or has failed with *size_bytes* accepted."""
        self.sending = None
        self.unsent_bytes -= size_bytes
        if not send.done:
            self._unnotified.append(send)

    @property
    def drained(self) -> bool:
        """Whether nothing of what was sent is read any more."""
        while self._unnotified and self._unnotified[0].done:
            self._unnotified.popleft()
        return self.sending is None and not self._unnotified

    def abort(self) -> None:
        """Reset the connection if the NIC may still read what was accepted for it."""
        for send in self._unnotified:
            send.abort()

    def drop(self) -> None:
        """Give back what waits."""
        while self._queue:
            if isinstance(buffer := self._queue.popleft(), Buffer):
                buffer.release()

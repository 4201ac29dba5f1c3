"""One direction of a relayed connection."""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress

from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.batch import Run
from pyzcrx._send.send import Send
from pyzcrx.errors import KernelError
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring

_SEND_BUFFERS = 256
"""Buffers of one send at most."""

_PIECE_BYTES = 4096
"""Short pieces are gathered up to this."""


class Flow:
    """What one socket brings goes out by another, in order.

    At most *backlog_bytes* wait here; then the source is not read until the sink takes some,
    so that TCP slows its peer down. The sockets are its owner's.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        source: socket.socket,
        sink: socket.socket,
        backlog_bytes: int,
        zero_copy: bool | None,
        owner: object,
    ) -> None:
        self._ring = ring
        self._ifq = ifq
        self._sink = sink
        self._backlog_bytes = backlog_bytes
        self._zero_copy = zero_copy
        self.owner = owner
        self._queue: deque[Buffer | bytes] = deque()
        self._unsent_bytes = 0
        self._sending: Send | None = None
        self._unnotified: deque[Send] = deque()
        """Sends that were accepted, the last of which the NIC may still read."""
        self._receiving = True
        self._ended = False
        """Whether the source's peer finished its side."""
        self.forwarded_bytes = 0
        """Bytes that were accepted for the sink."""
        self.finished = False
        """Whether all was forwarded, the end of the stream as well."""
        self._request = ifq.receive(source, limit=backlog_bytes, context=self)

    # -- what happens -----------------------------------------------------------

    def take(self, run: Run) -> None:
        """The source brought *run*."""
        if run.size_bytes < (run.stop - run.start) * self._ifq.rx_buf_len // 4:
            self._gather(run)
        else:
            self._queue.extend(run.buffers())
        self._unsent_bytes += run.size_bytes

    def _gather(self, run: Run) -> None:
        """Copy what would hold far more of the area than its bytes, were it to wait here."""
        data = b"".join(run.views())
        last = self._queue[-1] if self._queue else None
        if isinstance(last, bytes) and len(last) + len(data) <= _PIECE_BYTES:
            self._queue[-1] = last + data
        else:
            self._queue.append(data)

    def received_all(self, *, ended: bool) -> None:
        """The request is over: at the end of the stream, or at its limit."""
        self._receiving = False
        self._ended |= ended

    def sent(self, send: Send, size_bytes: int) -> None:
        """*send* was accepted, or has failed with *size_bytes* accepted."""
        self._sending = None
        self._unsent_bytes -= size_bytes
        self.forwarded_bytes += size_bytes
        if not send.done:
            self._unnotified.append(send)

    def go_on(self) -> None:
        """Send and receive what can be. Raises KernelError where the ring takes no request."""
        if self._sending is None and self._queue:
            pieces = [self._queue.popleft() for _ in range(min(len(self._queue), _SEND_BUFFERS))]
            self._sending = self._ring.send(
                self._sink, pieces, zero_copy=self._zero_copy, context=self
            )
        if self._sending is None and self._ended and not self.finished:
            self.finished = True
            with suppress(OSError):  # its peer has reset it: the other direction will tell
                self._sink.shutdown(socket.SHUT_WR)
        if not (self._receiving or self._ended) and self._unsent_bytes <= self._backlog_bytes // 2:
            self._request.resume(self._backlog_bytes)
            self._receiving = True

    # -- the end ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether neither a request nor the NIC has anything of it."""
        while self._unnotified and self._unnotified[0].done:
            self._unnotified.popleft()
        return not (self._receiving or self._sending is not None or self._unnotified)

    def stop(self) -> None:
        """Forward no more: drop what waits. What is in flight ends with the sockets."""
        for buffer in self._queue:
            if isinstance(buffer, Buffer):
                buffer.release()
        self._queue.clear()
        if self._receiving:
            with suppress(KernelError):  # then the socket's end ends it
                self._request.cancel()

"""One direction of a relayed connection."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from pyzcrx._receive.batch import Run
from pyzcrx._send.send import Send
from pyzcrx.errors import KernelError
from pyzcrx.forwarding.outbox import Outbox
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring


class Flow:
    """What one socket brings goes out by another, in order.

    At most as many bytes wait here as *backlog_bytes* gives, each time that the source is read
    on; then it is not read until the sink takes some, so that TCP slows its peer down. The
    sockets are its owner's.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        source: socket.socket,
        sink: socket.socket,
        backlog_bytes: Callable[[], int],
        zero_copy: bool | None,
        owner: object,
    ) -> None:
        self._ring = ring
        self._ifq = ifq
        self._sink = sink
        self._backlog_bytes = backlog_bytes
        self._zero_copy = zero_copy
        self.owner = owner
        self._outbox = Outbox(ifq.rx_buf_len)
        self._receiving = True
        self._ended = False
        """Whether the source's peer finished its side."""
        self.forwarded_bytes = 0
        """Bytes that were accepted for the sink."""
        self.finished = False
        """Whether all was forwarded, the end of the stream as well."""
        self._request = ifq.receive(source, limit=backlog_bytes(), context=self)

    # -- what happens -----------------------------------------------------------

    def take(self, run: Run) -> None:
        """The source brought *run*."""
        self._outbox.take(run)

    def received_all(self, *, ended: bool) -> None:
        """The request is over: at the end of the stream, or at its limit."""
        self._receiving = False
        self._ended |= ended

    def sent(self, send: Send, size_bytes: int) -> None:
        """*send* was accepted, or has failed with *size_bytes* accepted."""
        self._outbox.sent(send, size_bytes)
        self.forwarded_bytes += size_bytes

    def go_on(self) -> None:
        """Send and receive what can be. Raises KernelError where the ring takes no request."""
        outbox = self._outbox
        outbox.send(self._ring, self._sink, self._zero_copy, self)
        if outbox.sending is None and self._ended and not self.finished:
            self.finished = True
            with suppress(OSError):  # its peer has reset it: the other direction will tell
                self._sink.shutdown(socket.SHUT_WR)
        if self.waits:
            backlog_bytes = self._backlog_bytes()
            if outbox.unsent_bytes <= backlog_bytes // 2:
                self._request.resume(backlog_bytes)
                self._receiving = True

    @property
    def waits(self) -> bool:
        """Whether its source is not read on before the sink takes some."""
        return not (self._receiving or self._ended)

    def relieve(self, more_bytes: int) -> None:
        """Read *more_bytes* on all the same. Raises KernelError."""
        if self.waits and more_bytes:
            self._request.resume(more_bytes)
            self._receiving = True

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait here."""
        return self._outbox.unsent_bytes

    # -- the end ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether neither a request nor the NIC has anything of it."""
        return not self._receiving and self._outbox.drained

    def stop(self) -> None:
        """Forward no more: drop what waits. What is in flight ends with the sockets."""
        self._outbox.drop()
        if self._receiving:
            with suppress(KernelError):  # then the socket's end ends it
                self._request.cancel()

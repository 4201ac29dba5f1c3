"""The servers behind ``zcrx-echo``: accept by io_uring, receive by zcrx, echo or discard."""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress

from pyzcrx.batch import Batch
from pyzcrx.buffer import Buffer
from pyzcrx.errors import NotConnected, ZcrxError
from pyzcrx.events import Accepted, End, Event, Failed, Limit, Sent
from pyzcrx.ifq import Ifq
from pyzcrx.loop import Ring
from pyzcrx.operations import Accept, Send
from pyzcrx.receive import Request

SEND_BUFFERS = 256
"""Buffers of one send at most."""

ACCEPT_RETRY_S = 0.1
"""When accepting stopped for want of descriptors and no connection closes to free one."""


class Connection:
    """One client: what it sent and was not yet sent back."""

    __slots__ = ("broken", "ended", "fd", "paused", "queue", "request", "sending", "unsent_bytes")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.request: Request | None = None
        self.queue: deque[Buffer] = deque()
        self.sending: Send | None = None
        self.unsent_bytes = 0
        self.paused = False
        """Its limit is reached and it waits for its echo to drain."""
        self.ended = False
        """The peer finished its side."""
        self.broken = False
        """Nothing more can be sent to it."""

    @property
    def receiving(self) -> bool:
        return self.request is not None and not self.request.over


class Server:
    """Accepts on *listener* and echoes, or with *discard* only receives.

    backlog_bytes: what one connection may have received and not been sent back;
    it is not read further until its peer takes some, so that TCP slows it down
    and the area stays for the others. once: serve one connection, then be done.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        listener: socket.socket,
        *,
        discard: bool = False,
        once: bool = False,
        backlog_bytes: int = 1 << 18,
    ) -> None:
        self._ring = ring
        self._ifq = ifq
        self._listener = listener
        self._discard = discard
        self._once = once
        self._backlog_bytes = backlog_bytes
        self._connections: dict[int, Connection] = {}
        self._accept: Accept | None = ring.accept(listener)
        self._accept_failed = False
        self.failures: deque[ZcrxError] = deque(maxlen=100)
        """Why connections ended other than cleanly, the last hundred."""

    @property
    def done(self) -> bool:
        """With ``once``: whether its connection is over."""
        return self._once and self._accept is None and not self._connections

    def turn(self, timeout: float | None) -> None:
        """Wait for something, at most *timeout* seconds, and deal with all of it."""
        if self._accept_failed:
            timeout = ACCEPT_RETRY_S if timeout is None else min(timeout, ACCEPT_RETRY_S)
        batch = self._ring.wait(timeout)
        if self._accept_failed:
            self._accept_failed = False
            self._accept = self._ring.accept(self._listener)
        if not self._discard:
            self._take(batch)
        batch.release()
        for event in batch.events:
            self._handle(event)

    def _take(self, batch: Batch) -> None:
        for run in batch.runs():
            connection = run.request.context
            assert isinstance(connection, Connection)
            if connection.broken:
                continue
            buffers = [batch.buffer(run.request, i) for i in range(run.start, run.stop)]
            connection.queue.extend(buffers)
            connection.unsent_bytes += run.size_bytes
            self._pump(connection)

    def _handle(self, event: Event) -> None:
        match event:
            case Accepted(fd=fd):
                self._accepted(fd)
            case Sent(request=send, size_bytes=size_bytes):
                self._sent(send, size_bytes)
            case Limit(request=request):
                self._reached_limit(self._connection(request))
            case End(request=request):
                connection = self._connection(request)
                connection.ended = True
                self._pump(connection)
            case Failed(request=request, error=error):
                self._failed(request, error)

    @staticmethod
    def _connection(request: Request | Send) -> Connection:
        assert isinstance(request.context, Connection)
        return request.context

    def _accepted(self, fd: int) -> None:
        if self._once:
            self._stop_accepting()
        connection = Connection(fd)
        limit = None if self._discard else self._backlog_bytes
        try:
            connection.request = self._ifq.receive(fd, limit=limit, context=connection)
        except NotConnected as error:
            self.failures.append(error)
            os.close(fd)
            return
        self._connections[fd] = connection

    def _stop_accepting(self) -> None:
        if self._accept is not None:
            self._accept.cancel()
            self._accept = None

    # -- echoing ------------------------------------------------------------

    def _pump(self, connection: Connection) -> None:
        """Send what waits; finish the connection where nothing will come any more."""
        if connection.sending is None and connection.queue and not connection.broken:
            queue = connection.queue
            buffers = [queue.popleft() for _ in range(min(len(queue), SEND_BUFFERS))]
            connection.sending = self._ring.send(connection.fd, buffers, context=connection)
        if connection.sending is None and connection.ended:
            self._close(connection)

    def _sent(self, send: Send, size_bytes: int) -> None:
        connection = self._connection(send)
        connection.sending = None
        connection.unsent_bytes -= size_bytes
        self._release(send)
        if connection.paused and connection.unsent_bytes <= self._backlog_bytes // 2:
            self._resume(connection)
        self._pump(connection)

    @staticmethod
    def _release(send: Send) -> None:
        for buffer in send.buffers:
            if isinstance(buffer, Buffer):
                buffer.release()

    def _reached_limit(self, connection: Connection) -> None:
        if connection.unsent_bytes <= self._backlog_bytes // 2:
            self._resume(connection)
        else:
            connection.paused = True

    def _resume(self, connection: Connection) -> None:
        assert connection.request is not None
        connection.paused = False
        connection.request.resume(self._backlog_bytes)

    # -- ends ---------------------------------------------------------------

    def _failed(self, request: Request | Accept | Send, error: ZcrxError) -> None:
        if isinstance(request, Accept):
            if request is self._accept:
                self.failures.append(error)
                self._accept_failed = True
            return
        self.failures.append(error)
        connection = self._connection(request)
        if isinstance(request, Send):
            connection.sending = None
            self._release(request)
        self._break(connection)

    def _break(self, connection: Connection) -> None:
        """Neither direction will go on: wait for what is in flight, then close."""
        connection.broken = True
        while connection.queue:
            connection.queue.popleft().release()
        if connection.sending is not None:
            # Ends the send; its Failed event brings us back here.
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
        elif connection.receiving:
            assert connection.request is not None
            connection.request.cancel()
        else:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        """The last of both directions is over."""
        os.close(connection.fd)
        del self._connections[connection.fd]

    def close(self) -> None:
        """Close every connection; the ring, closed before, has ended their requests."""
        for connection in self._connections.values():
            while connection.queue:
                connection.queue.popleft().release()
            connection.sending = None
            os.close(connection.fd)
        self._connections.clear()

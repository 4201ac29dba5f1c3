"""The servers behind ``zcrx-echo``: accept by io_uring, receive by zcrx, echo or discard."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable

from pyzcrx._common.stalled import AFTER_S
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.events import Accepted, End, Event, Failed, Limit, Sent
from pyzcrx._receive.request import Request
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send
from pyzcrx.cli.acceptor import Acceptor, close_by_reset, end, shut
from pyzcrx.cli.idle import Idle
from pyzcrx.errors import AreaHeld, KernelError, ZcrxError
from pyzcrx.forwarding.backlog import Backlog
from pyzcrx.forwarding.outbox import Outbox
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring

MAX_CONNECTIONS = 20_000


class Connection:
    """One client: what it sent and was not yet sent back."""

    __slots__ = (
        "broken",
        "ended",
        "fd",
        "outbox",
        "paused",
        "receiving",
        "request",
    )

    def __init__(self, fd: int, rx_buf_len: int) -> None:
        self.fd = fd
        self.request: Request | None = None
        self.outbox = Outbox(rx_buf_len)
        self.receiving = False
        """Its request's End, Limit or Failed has not been seen yet."""
        self.paused = False
        """Its limit is reached and it waits for its echo to drain."""
        self.ended = False
        """The peer finished its side."""
        self.broken = False
        """Nothing more can be sent to it."""


class Server:
    """Accepts on *listener* and echoes, or with *discard* only receives.

    backlog: what one connection may have received and not been sent back;
    it is not read further until its peer takes some, so that TCP slows it down
    and the area stays for the others. rcvbuf_bytes: SO_RCVBUF of the connections, which
    bounds what one that is not read holds of the area; None: the kernel's choice.
    max_connections: more are refused, by RST. idle_timeout_s: a connection that in
    this time neither sent nor took anything is reset. once: serve one connection,
    then be done. ending: called with a connection's descriptor before that is closed.
    zero_copy: how to send (:meth:`pyzcrx.Ring.send`).
    told: called with a line about a connection that was reset, since it held most of an
    area that ran low (pressure policy "raise").

    What fails for one connection ends that connection alone.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        listener: socket.socket,
        *,
        discard: bool = False,
        once: bool = False,
        backlog: Backlog,
        rcvbuf_bytes: int | None = None,
        zero_copy: bool | None = None,
        ending: Callable[[int], None] = lambda _fd: None,
        told: Callable[[str], None] = lambda _line: None,
        max_connections: int = MAX_CONNECTIONS,
        idle_timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if rcvbuf_bytes is not None:
            # Inherited by what is accepted; the kernel books twice as much.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        self._ring = ring
        self._ifq = ifq
        self._discard = discard
        self._once = once
        self._backlog = backlog
        self._zero_copy = zero_copy
        self._ending = ending
        self._told = told
        self._idle = Idle[Connection](idle_timeout_s, clock)
        self._stalled = Idle[Connection](AFTER_S, clock)
        """Those that are not read on before their echo drains."""
        self._connections: dict[int, Connection] = {}
        self._leaving: set[Connection] = set()
        """Those that wait for nothing but notifications."""
        self._acceptor = Acceptor(ring, listener, max_connections, clock)
        self.failures: deque[ZcrxError] = deque(maxlen=100)
        """Why connections ended other than cleanly, the last hundred."""

    @property
    def done(self) -> bool:
        """With ``once``: whether its connection is over."""
        return self._once and self._acceptor.stopped and not self._connections

    def turn(self, timeout: float | None) -> None:
        """Wait for something, at most *timeout* seconds, and deal with all of it.

        Raises InterfaceGone once the NIC was taken away.
        """
        waits = (
            timeout,
            self._acceptor.wait_s(),
            self._idle.wait_s(),
            self._stalled.wait_s(),
        )
        try:
            batch = self._ring.wait(min((s for s in waits if s is not None), default=None))
        except AreaHeld as error:
            self._reset_holder(error)
            return
        self._acceptor.resume()
        if self._idle.after_s is not None:
            for run in batch.runs():
                self._idle.touch(self._connection(run.request))
        if not self._discard:
            self._take(batch)
        batch.release()
        for event in batch.events:
            self._handle(event)
        if self._ifq.gone is not None:
            raise self._ifq.gone
        for connection in self._idle.due():
            self._time_out(connection)
        for connection in self._stalled.due():
            self._relieve(connection)
        for connection in [c for c in self._leaving if c.outbox.drained]:
            self._advance(connection)

    def _take(self, batch: Batch) -> None:
        for run in batch.runs():
            connection = self._connection(run.request)
            if connection.broken:
                continue
            connection.outbox.take(run)
            self._advance(connection)

    def _handle(self, event: Event) -> None:
        match event:
            case Accepted(fd=fd):
                self._accepted(fd)
            case Sent(request=send, size_bytes=size_bytes):
                self._sent(send, size_bytes)
            case Limit(request=request):
                connection = self._connection(request)
                connection.receiving = False
                connection.paused = True
                self._advance(connection)
            case End(request=request):
                connection = self._connection(request)
                connection.receiving = False
                connection.ended = True
                self._advance(connection)
            case Failed(request=request, error=error):
                self._failed(request, error)

    @staticmethod
    def _connection(request: Request | Send) -> Connection:
        assert isinstance(request.context, Connection)
        return request.context

    def _accepted(self, fd: int) -> None:
        if self._once:
            self._acceptor.stop()
        if not self._acceptor.admit(fd, len(self._connections)):
            return
        connection = Connection(fd, self._ifq.rx_buf_len)
        limit = None if self._discard else self._backlog.share_bytes(len(self._connections) + 1)
        try:
            connection.request = self._ifq.receive(fd, limit=limit, context=connection)
        except KernelError as error:
            self.failures.append(error)
            os.close(fd)
            return
        connection.receiving = True
        self._connections[fd] = connection
        self._idle.touch(connection)

    def _advance(self, connection: Connection) -> None:
        """After anything that happened to it: send, receive on, or close."""
        c = connection
        if not c.broken:
            try:
                self._go_on(c)
            except KernelError as error:
                self.failures.append(error)
                self._break(c)
        # Only once nothing is in flight: the descriptor's number may be another's soon.
        if (c.broken or c.ended) and c.outbox.sending is None and not c.receiving:
            if not c.outbox.drained:
                self._leave(c)
                return
            self._leaving.discard(c)
            self._ending(c.fd)
            os.close(c.fd)
            del self._connections[c.fd]
            self._idle.forget(c)
            self._stalled.forget(c)

    def _leave(self, c: Connection) -> None:
        """Close *c* with its last notification; the peer sees that at once."""
        if c not in self._leaving:
            self._leaving.add(c)
            if not c.broken:
                shut(c.fd, socket.SHUT_WR)

    def _go_on(self, c: Connection) -> None:
        """Send and receive what can be. Raises KernelError where the ring takes no request."""
        c.outbox.send(self._ring, c.fd, self._zero_copy, c)
        if c.paused:
            share_bytes = self._backlog.share_bytes(len(self._connections))
            if c.outbox.unsent_bytes <= share_bytes // 2:
                self._stalled.forget(c)
                self._receive_on(c, share_bytes)
            else:
                self._stalled.touch(c)

    def _receive_on(self, c: Connection, limit: int) -> None:
        assert c.request is not None
        c.request.resume(limit)
        c.paused = False
        c.receiving = True

    def _relieve(self, c: Connection) -> None:
        """Nothing of *c* was sent for a while: see :mod:`pyzcrx._common.stalled`."""
        more_bytes = self._backlog.relief_bytes(len(self._connections), c.outbox.unsent_bytes)
        if c.broken or not (c.paused and more_bytes) or self._ifq._core.crowded:
            return
        try:
            self._receive_on(c, more_bytes)
        except KernelError as error:
            self.failures.append(error)
            self._break(c)
            self._advance(c)

    def _sent(self, send: Send, size_bytes: int) -> None:
        connection = self._connection(send)
        connection.outbox.sent(send, size_bytes)
        self._idle.touch(connection)
        self._advance(connection)

    # -- ends ---------------------------------------------------------------

    def _failed(self, request: Request | Accept | Send, error: ZcrxError) -> None:
        if isinstance(request, Accept):
            self.failures.append(error)
            self._acceptor.failed(request, error)
            return
        self.failures.append(error)
        connection = self._connection(request)
        if isinstance(request, Send):
            connection.outbox.sent(request, 0)
        else:
            connection.receiving = False
        self._break(connection)
        self._advance(connection)

    @staticmethod
    def _break(connection: Connection) -> None:
        """Neither direction will go on: end what is in flight, its events bring the rest."""
        connection.broken = True
        connection.outbox.drop()
        if connection.outbox.sending is not None:
            shut(connection.fd)
        connection.outbox.abort()
        if connection.receiving and connection.request is not None:
            end(connection.request)

    def _time_out(self, connection: Connection) -> None:
        self._reset(connection, kernel_error(errno.ETIMEDOUT, "serve", f"fd {connection.fd}"))

    def _reset(self, connection: Connection, error: ZcrxError) -> None:
        self.failures.append(error)
        close_by_reset(connection.fd)
        self._break(connection)
        self._advance(connection)

    def _reset_holder(self, error: AreaHeld) -> None:
        """The area runs low: end the connection that holds most of it, for all others.

        What it had in a send comes back with the next turn.
        """
        for request, buffers, size_bytes in error.by_request:
            connection = request.context
            if isinstance(connection, Connection) and not connection.broken:
                self._told(
                    f"reset {_peer(connection.fd)}, which held most of the area: "
                    f"{size_bytes} bytes in {buffers} buffers"
                )
                self._reset(connection, error)
                return

    def close(self) -> None:
        """Close every connection; the ring, closed before, has ended their requests."""
        for connection in self._connections.values():
            connection.outbox.drop()
            self._ending(connection.fd)
            os.close(connection.fd)
        self._connections.clear()
        self._leaving.clear()
        self._acceptor.close()


def _peer(fd: int) -> str:
    """Its address and port, as far as they can be had."""
    sock = socket.socket(fileno=fd)
    try:
        address, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return f"fd {fd}"
    finally:
        sock.detach()
    return f"{address} port {port}"

"""A TCP relay: what connects here is connected on, and forwarded without a copy."""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from pyzcrx._common.checked import integer, optional, seconds
from pyzcrx._common.stalled import AFTER_S
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._receive.events import Accepted, End, Event, Failed, Limit, Sent
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send
from pyzcrx.cli.acceptor import Acceptor, close_by_reset, make_room
from pyzcrx.cli.idle import Idle
from pyzcrx.errors import AreaHeld, KernelError, ZcrxError
from pyzcrx.forwarding.backlog import Backlog
from pyzcrx.forwarding.connect import Connect, resolved
from pyzcrx.forwarding.flow import Flow
from pyzcrx.forwarding.pair import Pair
from pyzcrx.forwarding.stats import RelayStats
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring

MAX_CONNECTIONS = 10_000
CONNECT_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_TURN_S = 1.0


class Relay:
    """Accepts on *listener*; see :func:`relay` for the arguments. Its owner turns it.

    What fails for one connection ends that connection alone, by a reset of both sides.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        listener: socket.socket,
        address: tuple[str, int],
        *,
        zero_copy: bool | None = None,
        backlog_bytes: int | None = None,
        rcvbuf_bytes: int | None = None,
        max_connections: int = MAX_CONNECTIONS,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        idle_timeout: float | None = None,
        ending: Callable[[int], None] = lambda _fd: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ending: called with each descriptor of a connection before that is closed."""
        self._ending_fd = ending
        ifq._core.check_readable("a relay")
        self._ring = ring
        self._clock = clock
        self._ifq = ifq
        self._endpoints = resolved(address)
        self._zero_copy = zero_copy
        given_bytes = optional("backlog_bytes", backlog_bytes, 1, 1 << 31)
        self._backlog = Backlog(ifq.area.size_bytes, given_bytes, directions=2)
        if rcvbuf_bytes is not None:
            rcvbuf_bytes = integer("rcvbuf_bytes", rcvbuf_bytes, 1, 1 << 30)
            _narrow(listener, rcvbuf_bytes)
        self._rcvbuf_bytes = rcvbuf_bytes
        # Each connection has twice as many descriptors here as one of a server.
        most = make_room(2 * integer("max_connections", max_connections, 1, 10_000_000))
        self._connecting = Idle[Pair](seconds("connect_timeout", connect_timeout), clock)
        idle_s = None if idle_timeout is None else seconds("idle_timeout", idle_timeout)
        self._idle = Idle[Pair](idle_s, clock)
        self._stalled = Idle[Flow](AFTER_S, clock)
        """Those whose sources are not read on before their sinks take some."""
        self._pairs: set[Pair] = set()
        self._pending: set[Pair] = set()
        """Those whose second side is not connected yet."""
        self._ending: set[Pair] = set()
        """Those that wait for their last completions."""
        self._accepting = False
        """Whether accepting was stopped and has not ended."""
        self._stats = RelayStats()
        self.failures: deque[ZcrxError] = deque(maxlen=100)
        """Why connections ended other than cleanly, the last hundred."""
        self._acceptor = Acceptor(ring, listener, max(1, most // 2), clock)

    @property
    def ring(self) -> Ring:
        """The ring that it runs on."""
        return self._ring

    def stats(self) -> RelayStats:
        """The figures so far."""
        forward, backward = self._stats.forward_bytes, self._stats.backward_bytes
        for pair in self._pairs:
            if pair.flows:
                forward += pair.flows[0].forwarded_bytes
                backward += pair.flows[-1].forwarded_bytes
        return replace(
            self._stats,
            open=len(self._pairs),
            forward_bytes=forward,
            backward_bytes=backward,
        )

    def turn(self, timeout: float | None) -> None:
        """Wait for something, at most *timeout* seconds, and deal with all of it.

        Raises InterfaceGone once the NIC was taken away.
        """
        waits = (
            timeout,
            self._acceptor.wait_s(),
            self._idle.wait_s(),
            self._connecting.wait_s(),
            self._stalled.wait_s(),
        )
        try:
            batch = self._ring.wait(min((s for s in waits if s is not None), default=None))
        except AreaHeld as error:
            self._reset_holder(error)
            return
        self._acceptor.resume()
        touched: dict[Pair, None] = {}
        for run in batch.runs():
            flow = _flow(run.request.context)
            pair = _pair(flow)
            if not pair.broken:
                flow.take(run)
            touched[pair] = None
        batch.release()
        for event in batch.events:
            if (changed := self._handle(event)) is not None:
                touched[changed] = None
        if self._ifq.gone is not None:
            raise self._ifq.gone
        for pair in touched:
            self._idle.touch(pair)
            self._go_on(pair)
        self._connect_all()
        for pair in self._idle.due():
            where = f"fd {pair.accepted.fileno()}"
            self._fail(pair, kernel_error(errno.ETIMEDOUT, "serve", where))
        for flow in self._stalled.due():
            self._relieve(flow)
        for pair in [pair for pair in self._ending if pair.over]:
            self._close(pair)

    # -- events -----------------------------------------------------------------

    def _handle(self, event: Event) -> Pair | None:
        """Gives whose event it was, where that may go on."""
        match event:
            case Accepted(fd=fd):
                self._accept(socket.socket(fileno=fd))
                return None
            case Failed(request=Accept() as accept, error=error):
                self._accepting = False
                self.failures.append(error)
                self._acceptor.failed(accept, error)
                return None
            case Sent(request=send, size_bytes=size_bytes):
                flow = _flow(send.context)
                flow.sent(send, size_bytes)
            case End(request=request):
                flow = _flow(request.context)
                flow.received_all(ended=True)
            case Limit(request=request):
                flow = _flow(request.context)
                flow.received_all(ended=False)
            case Failed(request=request, error=error):
                flow = _flow(request.context)
                if isinstance(request, Send):
                    flow.sent(request, 0)
                else:
                    flow.received_all(ended=False)
                self._fail(_pair(flow), error)
            case _:
                raise AssertionError(event)
        return _pair(flow)

    def _accept(self, sock: socket.socket) -> None:
        self._stats.connections += 1
        if not self._acceptor.admit(sock.fileno(), len(self._pairs)):
            sock.detach()
            return
        self._connect(sock, 0)

    def _connect(self, sock: socket.socket, which: int) -> None:
        """Connect on, to the first endpoint from *which* on that can be tried."""
        error: KernelError | None = None
        for endpoint in self._endpoints[which:]:
            try:
                connect = Connect(self._ifq._core.ring, endpoint, self._rcvbuf_bytes)
                pair = Pair(sock, connect)
            except KernelError as failure:
                error = failure
                continue
            self._pairs.add(pair)
            self._pending.add(pair)
            self._connecting.touch(pair)
            return
        assert error is not None
        self._refuse(sock, error)

    def _refuse(self, sock: socket.socket, error: ZcrxError) -> None:
        self._stats.refused += 1
        self.failures.append(error)
        close_by_reset(sock.fileno())
        sock.close()

    def _connect_all(self) -> None:
        """Begin those that are connected now, and try the next endpoint for those that failed."""
        for pair in [pair for pair in self._pending if pair.connect.over]:
            error = pair.connect.error()
            self._pending.discard(pair)
            self._connecting.forget(pair)
            if error is not None:
                self._next_endpoint(pair, error)
                continue
            try:
                pair.begin(self._ring, self._ifq, self._share_bytes, self._zero_copy)
                self._idle.touch(pair)
            except KernelError as failure:
                self._fail(pair, failure)
        for pair in self._connecting.due():
            self._pending.discard(pair)
            self._next_endpoint(pair, pair.connect.failure(errno.ETIMEDOUT))

    def _next_endpoint(self, pair: Pair, error: KernelError) -> None:
        which = self._endpoints.index(pair.connect.endpoint) + 1
        self._pairs.discard(pair)
        pair.connect.cancel()
        if which < len(self._endpoints):
            self._connect(pair.accepted, which)
        else:
            self._refuse(pair.accepted, error)

    def _share_bytes(self) -> int:
        return self._backlog.share_bytes(len(self._pairs))

    # -- ends -------------------------------------------------------------------

    def _go_on(self, pair: Pair) -> None:
        if not pair.broken:
            try:
                for flow in pair.flows:
                    flow.go_on()
                    self._stalled.touch(flow) if flow.waits else self._stalled.forget(flow)
            except KernelError as error:
                self._fail(pair, error)
            if pair.ending:
                self._ending.add(pair)

    def _relieve(self, flow: Flow) -> None:
        """Nothing of *flow* was sent for a while: see :mod:`pyzcrx._common.stalled`."""
        pair = _pair(flow)
        if pair.broken or self._ifq._core.crowded:
            return
        try:
            flow.relieve(self._backlog.relief_bytes(len(self._pairs), flow.unsent_bytes))
        except KernelError as error:
            self._fail(pair, error)

    def _fail(self, pair: Pair, error: ZcrxError) -> None:
        if not pair.broken:
            self._stats.resets += 1
            self.failures.append(error)
            pair.reset()
            self._ending.add(pair)

    def _reset_holder(self, error: AreaHeld) -> None:
        """The area runs low: end the connection that holds most of it, for all others."""
        for request, _, _ in error.by_request:
            if isinstance(request.context, Flow):
                pair = _pair(request.context)
                if not pair.broken:
                    self._fail(pair, error)
                    return

    def _close(self, pair: Pair) -> None:
        for pairs in (self._pairs, self._pending, self._ending):
            pairs.discard(pair)
        self._connecting.forget(pair)
        self._idle.forget(pair)
        for flow in pair.flows:
            self._stalled.forget(flow)
        if pair.flows:
            self._stats.forward_bytes += pair.flows[0].forwarded_bytes
            self._stats.backward_bytes += pair.flows[-1].forwarded_bytes
        for sock in (pair.accepted, pair.connect.sock):
            self._ending_fd(sock.fileno())
        pair.close()

    def stop(self) -> None:
        """Accept no more, reset every connection, and take turns until they are gone.

        What is left after some seconds goes with the ring.
        """
        self._accepting = self._acceptor.accepting
        self._acceptor.stop()
        for pair in list(self._pairs):
            pair.reset()
            self._ending.add(pair)
        until = self._clock() + _STOP_TIMEOUT_S
        while (self._pairs or self._accepting) and (left := until - self._clock()) > 0:
            self.turn(left)
        self._acceptor.close()

    def close(self) -> None:
        """Close the sockets. After the ring's close, which ends their requests."""
        for pair in list(self._pairs):
            self._close(pair)
        self._acceptor.close()


def _narrow(listener: socket.socket, rcvbuf_bytes: int) -> None:
    """Have what is accepted inherit SO_RCVBUF; the kernel books twice as much."""
    sock = socket.socket(fileno=listener.fileno())
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
    finally:
        sock.detach()


def _flow(context: object) -> Flow:
    assert isinstance(context, Flow)
    return context


def _pair(flow: Flow) -> Pair:
    assert isinstance(flow.owner, Pair)
    return flow.owner


def relay(
    ring: Ring,
    ifq: Ifq,
    listener: socket.socket,
    address: tuple[str, int],
    *,
    until: Callable[[], bool] | None = None,
    zero_copy: bool | None = None,
    backlog_bytes: int | None = None,
    rcvbuf_bytes: int | None = None,
    max_connections: int = MAX_CONNECTIONS,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    idle_timeout: float | None = None,
) -> RelayStats:
    """Accept TCP connections, connect each on to *address*, and forward both ways.

    Both sides are received by *ifq*; bytes go from its area to the other side's socket, by
    zero_copy as in :meth:`pyzcrx.Ring.send`. The end of one direction is forwarded as such, a
    reset or an error of one side resets the other. Runs until *until*, called once a
    turn and at least once a second, gives true; with None, until an exception ends it
    (KeyboardInterrupt). Then all connections are reset. No other request may be on the ring.

    ring, ifq: where both sides are received. listener: a listening socket, yours to close.
    address: host and port; the addresses of a name are tried in turn. backlog_bytes: what may
    wait in each direction, at most an eighth of the area; then TCP slows the sender down. None:
    a 32nd, less where more than four connections share it, 256 KiB to 1 MiB. rcvbuf_bytes:
    SO_RCVBUF of all sockets, which bounds what one that is not read holds of the area; None: the
    kernel's choice. max_connections: more are refused. connect_timeout: seconds for each address.
    idle_timeout: a connection that forwards nothing for so many seconds is reset; None: it
    may stay.

    Owner thread of the ring only. Raises BadArgument, UnreadableMemory, InterfaceGone,
    WrongThread, ClosedError.
    """
    relay = Relay(
        ring,
        ifq,
        listener,
        address,
        zero_copy=zero_copy,
        backlog_bytes=backlog_bytes,
        rcvbuf_bytes=rcvbuf_bytes,
        max_connections=max_connections,
        connect_timeout=connect_timeout,
        idle_timeout=idle_timeout,
    )
    try:
        while until is None or not until():
            relay.turn(_TURN_S)
    finally:
        if not relay.ring.closed:
            relay.stop()
    return relay.stats()

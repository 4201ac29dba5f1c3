"""asyncio's own event loop on a ring: TCP connections are received by zcrx.

The loop is :class:`asyncio.SelectorEventLoop` with a selector over the ring. All that asyncio does
with descriptors (servers, sends, UDP, pipes, subprocesses, signals) works as ever, by poll
requests. Only how a transport of a TCP connection receives is replaced. The methods that are
overridden here are private to asyncio, and alike from Python 3.11 to 3.13; CPython's own test suite
is run on this loop.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import selector_events, sslproto
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from pyzcrx._common import checked
from pyzcrx._common.checked import integer, optional, seconds
from pyzcrx._kernel.endpoint import address_of
from pyzcrx._kernel.interface import find
from pyzcrx._queue.area import Area
from pyzcrx._queue.registration import LARGEST_BUF_LEN, MOST_QUEUE
from pyzcrx._receive.delivery import Delivery
from pyzcrx.aio.arrival import Arrival, napi_id
from pyzcrx.aio.attach import Attached
from pyzcrx.aio.clients import CONNECTING, NOT_BY_RULE, SETTLED, Outgoing, Pending, Steering
from pyzcrx.aio.selector import RingSelector
from pyzcrx.aio.sockets import SocketLoop
from pyzcrx.aio.transport import ZcTransport
from pyzcrx.errors import BadArgument, NotPermitted
from pyzcrx.ifq import Ifq
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.read import Reader
from pyzcrx.nic.setup import Setup, prepare
from pyzcrx.nic.steering import Steered
from pyzcrx.ring import Ring
from pyzcrx.urgent import drop_urgent

AREA_BYTES = 64 << 20
_QUEUE_FREE_S = 5
"""The kernel gives a queue back a moment after the loop before was closed."""


class EventLoop(SocketLoop):
    """An asyncio event loop whose TCP connections are received by zcrx.

    interface: the NIC, by name or index; None: NODEV, every TCP connection is received into
    the area, by one copy of the kernel's. flows: what :func:`pyzcrx.nic.prepare` steers to a queue
    (``"tcp4 dst 192.0.2.1:9999"``); none: those of the loop's servers, from the first connection
    on, and each connection that is made over the interface. The NIC is restored when the loop is
    closed. rx_queue: instead of flows, a queue of a NIC that is set up already. area_bytes:
    memory to receive into. rx_buf_len: as of :meth:`pyzcrx.Ring.register_ifq`. queue_free_s: how
    long to wait for a queue that is bound. ring: makes the ring; give one with other sizes here.

    A connection is received by zcrx where its packets come from that interface
    (SO_INCOMING_NAPI_ID), any other as on asyncio's own loop, of those that the program makes
    with a PlainReceiveWarning. ``transport.get_extra_info("zero_copy")`` is true if the NIC
    placed the last bytes of a connection in the area. ``sock_recv`` and its like are plain
    receives: not for connections whose data lies in the ifq.

    The ring is made when the loop first runs, by that thread, and the ifq with the first server
    (where flows are those of the loop, with the first connection); close() closes both. Raises
    BadArgument; what :meth:`pyzcrx.Ring.register_ifq` and :func:`pyzcrx.nic.prepare` raise comes
    from ``create_server()`` or ``create_connection()``, or is told to the loop's exception
    handler.
    """

    _closed = True  # what asyncio asks of a loop whose __init__() raised

    def __init__(
        self,
        *,
        interface: str | int | None = None,
        flows: tuple[str, ...] = (),
        rx_queue: int | None = None,
        area_bytes: int = AREA_BYTES,
        rx_buf_len: int | None = None,
        queue_free_s: float = _QUEUE_FREE_S,
        ring: Callable[[], Ring] = Ring,
    ) -> None:
        if interface is None and (flows or rx_queue is not None):
            raise BadArgument("flows and rx_queue are of a NIC; give interface= as well")
        if flows and rx_queue is not None:
            raise BadArgument("give flows to be steered, or the rx_queue that they arrive on")
        self._interface = None if interface is None else checked.interface(interface)
        self._flows = flows
        self._listeners: list[socket.socket] = []
        self._rx_queue = optional("rx_queue", rx_queue, 0, MOST_QUEUE)
        self._area_bytes = integer("area_bytes", area_bytes, 1, 1 << 48)
        self._rx_buf_len = optional("rx_buf_len", rx_buf_len, 0, LARGEST_BUF_LEN)
        self._queue_free_s = seconds("queue_free_s", queue_free_s)
        self._ifq: Ifq | None = None
        self._napi_ids: frozenset[int] | None = None
        self._nic: Setup | None = None
        self._steered: set[Flow] = set()
        """The servers' flows that are steered."""
        self._steering: Steering | None = None
        self._pending = Pending()
        self._held = ExitStack()
        """What is undone once the ring is closed: the area, the NIC."""
        self._ring_selector = RingSelector(ring)
        super().__init__(self._ring_selector)

    @property
    def ring(self) -> Ring:
        """The loop's ring. Only in the thread that runs the loop; raises WrongThread."""
        return self._ring_selector.ring

    @property
    def _turns(self) -> Delivery:
        """What brings the events of the ring that the loop itself turns."""
        return self.ring._delivery

    @property
    def ifq(self) -> Ifq:
        """The interface queue that connections are received on; registered if need be.

        Its :meth:`~pyzcrx.Ifq.stats` say how much was copied. Only in the thread that runs
        the loop.
        """
        if self._ifq is None:
            with ExitStack() as stack:
                self._ifq = self._register(stack)
                self._held = stack.pop_all()
            if self._interface is not None:
                self._napi_ids = self._napis(self._interface)  # now, as it imports much
        return self._ifq

    def _register(self, stack: ExitStack) -> Ifq:
        area = stack.enter_context(Area.anonymous(self._area_bytes))
        register = partial(
            self.ring.register_ifq, area, rx_buf_len=self._rx_buf_len, timeout=self._queue_free_s
        )
        if self._interface is None:
            return register()
        if self._rx_queue is not None:
            return register(interface=self._interface, rx_queue=self._rx_queue)
        flows = self._flows or self._served()
        nic = stack.enter_context(prepare(self._interface, *flows))
        ifq = register(nic)
        self._nic, self._steered = nic, set(self._served())
        return ifq

    def _served(self) -> tuple[Flow, ...]:
        """What the loop's TCP servers listen to."""
        self._listeners = [sock for sock in self._listeners if sock.fileno() >= 0]
        flows = []
        for sock in self._listeners:
            host, port = sock.getsockname()[:2]
            address = ip_address(host)
            dst = None if address.is_unspecified else ip_network(address)
            flows.append(Flow("tcp4" if sock.family == socket.AF_INET else "tcp6", dst, port))
        return tuple(dict.fromkeys(flows))

    def close(self) -> None:
        """As asyncio's; then the ifq and the ring, and the NIC is restored."""
        if self.is_running():
            super().close()  # which says that it cannot be
        with self._held:
            super().close()

    # -- which connections are the ifq's ----------------------------------------

    def _receives(self, sock: socket.socket) -> bool:
        """Whether a connection on *sock* is received by zcrx."""
        if not _is_tcp(sock):
            return False
        if self._interface is None:
            return True
        if self._ifq is None and self._rx_queue is None and not (self._flows or self._served()):
            return False  # nothing is steered to a queue
        if self._napi_ids is None:
            self._napi_ids = self._napis(self._interface)
        return napi_id(sock) in self._napi_ids

    # -- connections that the program makes ---------------------------------------

    @property
    def _steers(self) -> bool:
        """Whether the loop steers by itself what its servers and clients receive."""
        return self._interface is not None and not self._flows and self._rx_queue is None

    def _prepared(self) -> Setup:
        self.ifq  # noqa: B018 - prepares the NIC
        assert self._nic is not None
        return self._nic

    def _steering_of(self) -> Steering | None:
        if self._steering is None and self._steers:
            assert self._interface is not None
            self._steering = Steering(self, find(self._interface), self._prepared)
        return self._steering

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """As asyncio's."""
        if self._interface is None or not CONNECTING.get() or not _is_tcp(sock):
            await super().sock_connect(sock, address)
            return
        steering = self._steering_of()
        outgoing = Outgoing() if steering is None else await steering.before(sock, address)
        self._pending.add(sock, outgoing, steering)
        try:
            await super().sock_connect(sock, address)
        except BaseException:
            self._pending.take(sock)
            self._release(outgoing.steered)
            raise

    async def _connect_sock(self, *arguments: Any) -> socket.socket:
        token = CONNECTING.set(True)
        try:
            sock: socket.socket = await super()._connect_sock(*arguments)  # type: ignore[misc]
            return sock
        finally:
            CONNECTING.reset(token)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """As asyncio's. What arrives over the loop's interface is steered to the ifq's queue.

        A rule for this connection alone is made before it connects, or, where *sock* is
        connected, now; it is removed when the connection is over. Raises what
        :func:`pyzcrx.nic.prepare` and :meth:`pyzcrx.Ring.register_ifq` raise, by the first one.
        """
        sock = options.get("sock")
        if sock is not None and host is None and port is None and sock not in SETTLED:
            await self._adopt(sock)
        return await super().create_connection(protocol_factory, host, port, **options)

    async def _adopt(self, sock: socket.socket) -> None:
        """Steer a connection that the program itself made."""
        steering = self._steering_of()
        if steering is not None and isinstance(sock, socket.socket) and _is_tcp(sock):
            with suppress(OSError):  # not connected: asyncio says what is wrong with it
                self._pending.add(sock, await steering.after(sock), steering)

    def _release(self, steered: Steered | None) -> None:
        if self._steering is not None:
            self._steering.release(steered)

    def _received(self, sock: socket.socket) -> tuple[bool, Steered | None]:
        """Whether a connection is received by zcrx, and the rule that it has."""
        outgoing = self._pending.take(sock)
        if outgoing is None:
            return self._receives(sock), None
        steered = outgoing.steered
        arrives = self._ifq is not None and Arrival(self.ifq, sock).zero_copy
        if arrives or (steered is not None and not outgoing.before):
            return True, steered
        if not self._steers and self._receives(sock):
            return True, None
        self._release(steered)
        peer = sock.getpeername()
        outgoing.cause = outgoing.cause or (
            NOT_BY_RULE
            if self._steers
            else f"its packets come by another NIC than {self._interface}"
        )
        if not address_of(peer[0])[0].is_loopback:
            outgoing.warn(peer, "received as by asyncio")
        return False, None

    @staticmethod
    def _napis(interface: str | int) -> frozenset[int]:
        with Reader() as kernel:
            index = find(interface).index
            napis = () if kernel._netdev is None else kernel._netdev.napis(index)
        return frozenset(napi.id for napi in napis)

    # -- what asyncio asks its loops for ------------------------------------------

    if TYPE_CHECKING:
        _transports: Any

    def _start_serving(
        self, protocol_factory: Any, sock: socket.socket, *arguments: Any, **options: Any
    ) -> None:
        if _is_tcp(sock):
            self._listeners.append(sock)
            if self._interface is not None:
                with suppress(NotPermitted):
                    drop_urgent(sock)  # those accepted inherit it, which is cheaper, too
            if not self._steers:
                self._register_for(sock, lambda: self.ifq)
            elif self._nic is not None:  # set up for a client, or a server before this one
                self._register_for(sock, self._steer_servers)
        super()._start_serving(protocol_factory, sock, *arguments, **options)  # type: ignore[misc]

    def _register_for(self, listener: socket.socket, register: Callable[[], object]) -> None:
        """Now, so that who makes the server has the error."""
        try:
            register()
        except BaseException:
            listener.close()  # asyncio would not
            raise

    def _steer_servers(self) -> None:
        assert self._nic is not None
        for flow in self._served():
            if flow not in self._steered:
                self._nic.steer(flow)
                self._steered.add(flow)

    def _make_socket_transport(
        self, sock: socket.socket, protocol: Any, waiter: Any = None, **options: Any
    ) -> asyncio.Transport:
        make: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
        try:
            received, steered = self._received(sock)
            if received:
                make = partial(ZcTransport, self.ifq, partial(self._release, steered))
        except Exception as error:
            # asyncio closes a connection that was accepted, and says why only in debug mode.
            what = "a connection cannot be received by zcrx"
            self.call_exception_handler({"message": what, "exception": error, "socket": sock})
            raise
        transport: asyncio.Transport = make(self, sock, protocol, waiter, **options)
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        **options: Any,
    ) -> asyncio.Transport:
        times = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
        ssl_protocol: Any = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **times
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server, **options)
        transport: asyncio.Transport = ssl_protocol._app_transport
        return transport

    def _remove_reader(self, fd: Any) -> bool:
        transport = self._transports.get(fd)
        if isinstance(transport, ZcTransport) and transport.has_socket:
            return transport.stop_receiving()
        return super()._remove_reader(fd)

    def _process_events(self, event_list: Any) -> None:
        if event_list:
            super()._process_events(event_list)  # type: ignore[misc]
        delivery = self._ring_selector._delivery
        if delivery is None:
            return
        if delivery.attached is not None:
            assert isinstance(delivery.attached, Attached)
            delivery.attached._wake()
        changed = delivery.inboxes.changed
        if changed:
            for _ in range(len(changed)):  # those that join are for the next iteration
                inbox = changed[0]._inbox
                if inbox is not None and inbox.notify is not None:
                    inbox.notify()
                del changed[0]


def _is_tcp(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_TCP


def loop_factory(**options: Any) -> Callable[[], EventLoop]:
    """For :func:`asyncio.run` and all that take a loop factory; *options* of :class:`EventLoop`.

    ::

        asyncio.run(main(), loop_factory=pyzcrx.aio.loop_factory(interface="eth0"))

    asyncio.run() has loop_factory from Python 3.12; before, ``asyncio.Runner``.
    """
    return partial(EventLoop, **options)

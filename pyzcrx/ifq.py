"""One interface queue as users have it: receiving from it, and its figures."""

from __future__ import annotations

import socket
import sys

from pyzcrx._common.checked import MOST_BYTES, integer, number_of, seconds, writable
from pyzcrx._ifq.core import IfqCore
from pyzcrx._pressure.audit import Audit, audit
from pyzcrx._pressure.holders import Holder, holders
from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx._queue.area import Area
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._receive.delivery import Delivery
from pyzcrx._receive.reading import Reading
from pyzcrx._receive.request import Request
from pyzcrx.errors import KernelError
from pyzcrx.stream import Stream
from pyzcrx.uapi import EventType


class Ifq:
    """One ring's use of one rx queue, or with NODEV of none.

    Made by :meth:`pyzcrx.Ring.register_ifq`; closed with its ring. Owner thread only, but for the
    release of buffers and where a method says otherwise.
    """

    def __init__(self, core: IfqCore, delivery: Delivery) -> None:
        """Use :meth:`pyzcrx.Ring.register_ifq`."""
        self._core = core
        self._delivery = delivery
        core.face = self

    # -- the queue --------------------------------------------------------------

    @property
    def interface(self) -> str | None:
        """The primary name of the interface, as it was at registration; None: NODEV."""
        return self._core.interface

    @property
    def ifindex(self) -> int:
        """The index of the interface; 0: NODEV."""
        return self._core.ifindex

    @property
    def rx_queue(self) -> int | None:
        """The number of the rx queue; None: NODEV."""
        return self._core.rx_queue

    @property
    def nodev(self) -> bool:
        """Whether there is no NIC, so that the kernel copies."""
        return self._core.nodev

    @property
    def zcrx_id(self) -> int:
        """The number by which the kernel knows the queue in this ring."""
        return self._core.zcrx_id

    @property
    def rx_buf_len(self) -> int:
        """Bytes of a buffer, as the kernel settled it."""
        return self._core.rx_buf_len

    @property
    def areas(self) -> list[Area]:
        """The areas, in the order of their tokens."""
        return self._core.areas

    @property
    def area(self) -> Area:
        """The area it was registered with."""
        return self._core.area

    @property
    def rq(self) -> RefillQueue:
        """The refill queue."""
        return self._core.rq

    @property
    def rq_entries(self) -> int:
        """Size of the refill queue, as the kernel settled it."""
        return self._core.rq_entries

    @property
    def rq_view(self) -> memoryview:
        """The refill queue, read-only, as :mod:`pyzcrx.uapi` describes; readable after close."""
        return self._core.rq.view

    @property
    def gone(self) -> KernelError | None:
        """InterfaceGone once the NIC was removed: nothing will be received any more. Else None."""
        return self._core.gone

    def add_area(self, area: Area) -> None:
        """Give the kernel one area more, at any time; areas never go before the ring does.

        Of the same kind (memory or dmabuf) as the first, and fit for its rx_buf_len.

        Raises AreaInUse, NotSupported (EOPNOTSUPP: before Linux 7.3), InvalidRequest
        (EINVAL), OutOfRange (ERANGE), NoMemory, BadAreaMemory (EFAULT), InterfaceGone.
        Kernel: ``io_uring/zcrx.c:zcrx_ctrl_add_area()`` (7.3).
        """
        self._core.add_area(area)

    # -- receiving ----------------------------------------------------------

    def receive(
        self, sock: socket.socket | int, *, limit: int | None = None, context: object = None
    ) -> Request:
        """Receive from a connected TCP socket (or its descriptor), to the end or *limit* bytes.

        The request holds a descriptor of its own until it is over: closing *sock* before
        that closes no connection, and the peer sees no FIN. Cancel the request first, or
        shut the socket down. Sets SO_OOBINLINE on it, so that lost urgent data is noticed;
        on a NIC, a process that may has it dropped (:mod:`pyzcrx.urgent`). At most one
        request a socket. context: anything of yours, as ``request.context``.

        Raises BadArgument (limit), NotTcp (EPROTONOSUPPORT, ENOTSOCK),
        NotConnected (ENOTCONN, EBADF), InterfaceGone (ENODEV), WrongThread,
        ClosedError. What fails later comes as a Failed event.
        """
        request = self._core.new_request(sock, limit, context)
        self._core.begin(request)
        return request

    def stream(
        self,
        sock: socket.socket | int,
        *,
        room_bytes: int | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """A connected TCP socket as a blocking byte stream and binary file (:class:`Stream`).

        room_bytes: the most of the area that bytes take which were not read, half of them in
        the stream, half in the socket: on a NIC its receive buffer (SO_RCVBUF) is bounded. None:
        an eighth of the area; the only stream of a ring holds twice its half. TCP stops a peer
        that sends more. timeout: how many seconds a call waits while nothing arrives; None: for
        ever.

        The first read arms the request. Keep *sock* open until :meth:`Stream.close`, which
        leaves it open; the peer sees the end once both are closed. At most one stream or request
        a socket. Raises BadArgument, and what :meth:`receive` raises.

        ::

            with ifq.stream(sock) as stream:
                header = stream.readexactly(8)
                for chunk in stream:
                    with chunk:
                        consume(bytes(chunk))

        Kernel: ``io_uring/net.c:io_recvzc()`` (6.15).
        """
        checked = None if timeout is None else seconds("timeout", timeout)
        return Stream(self._delivery, self._reading(sock, room_bytes), sock, checked)

    def receive_into(
        self, sock: socket.socket | int, memory: object, *, timeout: float | None = None
    ) -> int:
        """Fill *memory* from a connected TCP socket; gives how many bytes came.

        Fewer only where the peer ended the stream before. The bytes are copied once, to where
        they are to be: a numpy array, ``mmap.mmap``, ``SharedMemory.buf``, a bytearray,
        anything writable and contiguous. Larger pieces are copied without the GIL. Nothing
        behind the last byte is taken: receive the next message so, too.

        timeout: how many seconds to wait while nothing arrives; None: for ever. Turns the
        ring, as streams do. *sock* stays open; at most one request or stream a socket.

        Raises BadArgument (*memory*), TimeoutError, UnreadableMemory, and what :meth:`receive`
        and the connection raise. After an error the connection is of no more use: what
        arrived and was not copied is lost.

        ::

            frame = numpy.empty((1080, 1920, 3), "u1")
            while ifq.receive_into(sock, frame) == frame.nbytes:
                show(frame)

        Kernel: ``io_uring/net.c:io_recvzc()``, with a limit (6.15).
        """
        view = writable(memory)
        checked = None if timeout is None else seconds("timeout", timeout)
        if not view:
            self._core.check_receives()
            number_of(sock)
            return 0
        at = 0
        with Stream(self._delivery, self._reading(sock, None, len(view)), sock, checked) as stream:
            while at < len(view) and (n := stream.readinto(view[at:])):
                at += n
        return at

    def _reading(
        self, sock: socket.socket | int, room_bytes: int | None, most_bytes: int | None = None
    ) -> Reading:
        """A connection for a reader, as :meth:`stream` describes; *most_bytes* of it."""
        core = self._core
        core.check_readable("a stream")
        room = self._room(room_bytes)
        request = core.new_request(sock, None, None)
        reading = Reading(self._delivery.inboxes, request, room, core.rx_buf_len, most_bytes)
        if room_bytes is None:
            reading.shared_bytes = core.area.size_bytes // 8
        if core.unread is None:
            delivery = self._delivery
            core.unread = lambda: delivery.make_way(core, core.area.size_bytes)
        if not core.nodev:  # else what lies in the socket does not lie in the area
            request._bound(room // 2)
        core.put_off(request)
        return reading

    def _room(self, room_bytes: int | None) -> int:
        """How much of the area a reader may take that was given *room_bytes*."""
        least = 2 * self._core.rx_buf_len
        if room_bytes is None:
            return max(least, self._core.area.size_bytes // 8)
        return integer("room_bytes", room_bytes, least, MOST_BYTES)

    # -- giving back ----------------------------------------------------------

    @property
    def held_back(self) -> int:
        """References given back that found no room in the refill queue yet."""
        return self._core.account.count

    def flush(self) -> bool:
        """ZCRX_CTRL_FLUSH_RQ: have the kernel take what is in the refill queue, now.

        Gives whether it took any. Kernels before 7.2 cannot; then nothing happens.
        Raises ClosedError, WrongThread.
        """
        return self._core.flush()

    # -- figures ----------------------------------------------------------------

    @property
    def total_bytes(self) -> int:
        """Bytes ever received."""
        return self._core.total_bytes

    @property
    def notifications(self) -> dict[EventType, int]:
        """How often the kernel has sent each notification (Linux 7.3, on a NIC).

        ALLOC_FAIL: the NIC found no free buffer; COPY: the kernel copied. Each is sent once and
        again only after a turn has taken it, so several occasions may count as one.
        """
        return dict(self._core.notices.counts)

    def stats(self) -> ReceiverStats:
        """The figures so far. From any thread, also after close."""
        return self._core.stats()

    def audit(self) -> Audit:
        """Where every reference is: each in exactly one place.

        Owner thread only; costs a look at every completion that was not dealt with.
        Raises AccountingError, CorruptRing, ClosedError.
        """
        self._core.check_usable()
        return audit(self._core)

    def holders(self, most: int = 10) -> list[Holder]:
        """The *most* buffers that are out longest. From any thread, also after close.

        Raises BadArgument.
        """
        return holders(self._core, integer("most", most, 0, sys.maxsize))

    @property
    def hold_times(self) -> tuple[int, ...]:
        """References given back, by how long they were out: entry i counts [2**i, 2**(i+1)) ns."""
        return self._core.account.histogram

    def __repr__(self) -> str:
        where = "NODEV" if self.nodev else f"{self.interface} queue {self.rx_queue}"
        return f"<Ifq {where}, {self._core.account.leased} references out>"

"""A ring's use of an interface queue: its requests, what it gives back, its figures."""

from __future__ import annotations

import errno
import socket
import sys
import time
import weakref
from contextlib import suppress
from typing import Any

from pyzcrx._common.caller import caller
from pyzcrx._common.checked import MOST_BYTES, integer, number_of, seconds
from pyzcrx._kernel._ffi import check, lib
from pyzcrx._kernel.descriptor import hold
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._lease import Account
from pyzcrx._pressure.audit import Audit, audit
from pyzcrx._pressure.holders import Holder, holders
from pyzcrx._pressure.policy import Pressure
from pyzcrx._pressure.relief import Relief
from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx._queue import bound
from pyzcrx._queue.area import Area
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.notices import Notices
from pyzcrx._queue.queue import InterfaceQueue
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._receive import debug
from pyzcrx._receive.delivery import Delivery
from pyzcrx._receive.events import Data
from pyzcrx._receive.reading import Reading
from pyzcrx._receive.request import Request, State, checked_limit
from pyzcrx._receive.waiting import SHORT_NS, Waiting
from pyzcrx._ring.core import TOKEN_RECEIVE, TOKEN_SLOT_SHIFT, RingCore
from pyzcrx.errors import (
    ClosedError,
    CorruptRing,
    KernelError,
    NotPermitted,
)
from pyzcrx.stream import Stream
from pyzcrx.uapi import EventType
from pyzcrx.urgent import drop_urgent


class Ifq:
    """Made by :meth:`pyzcrx.Ring.register_ifq`; closed with its ring.

    Owner thread only, but for the release of buffers.
    """

    _closed = True

    def __init__(
        self,
        ring: RingCore,
        slot: int,
        queue: InterfaceQueue,
        delivery: Delivery,
        pressure: Pressure | None = None,
    ) -> None:
        """Use :meth:`pyzcrx.Ring.register_ifq`."""
        self.ring = ring
        self.slot = slot
        self.token = TOKEN_RECEIVE | slot << TOKEN_SLOT_SHIFT
        """What the tokens of its requests have in common."""
        self.queue = queue
        self._delivery = delivery
        self.account = Account()
        self.account.poison = ring.debug
        self.account.rq = queue.rq.shared
        self._buffer_type = debug.DebugBuffer if ring.debug else Buffer
        self._make_data = debug.data if ring.debug else Data
        self._make_bare = debug.mark if ring.debug else None
        self.notices = Notices(queue.arm_notice)
        """ALLOC_FAIL and COPY of the kernel, counted in ``notices.counts``."""
        ring.watch(self.notices, queue.registered.notice_token)
        # Half a queue or a quarter of the area, whatever fills first: NODEV
        # drains nothing by itself.
        buffers = self.area.size_bytes // self.rx_buf_len
        self._half = buffers // 2
        self.flush_at = max(1, min(self.rq_entries // 2, buffers // 4)) if self.nodev else 0
        self._act_at = self.flush_at or self.rq_entries + 1
        """Entries in the refill queue that something is to be done about."""
        self.waiting = Waiting(ring, self.account)
        self._closed = False
        self.gone: KernelError | None = None
        """InterfaceGone, once the NIC was taken away: nothing will be received any more."""
        self._stats = ReceiverStats()
        self._requests: weakref.WeakValueDictionary[int, Request] = weakref.WeakValueDictionary()
        self.relief = Relief(self, pressure)
        bound.add(self)

    # -- the queue --------------------------------------------------------------

    @property
    def interface(self) -> str | None:
        """The primary name of the interface, as it was at registration; None: NODEV."""
        return self.queue.interface

    @property
    def ifindex(self) -> int:
        """The index of the interface; 0: NODEV."""
        return self.queue.ifindex

    @property
    def rx_queue(self) -> int | None:
        """The number of the rx queue; None: NODEV."""
        return self.queue.rx_queue

    @property
    def nodev(self) -> bool:
        """Whether there is no NIC, so that the kernel copies."""
        return self.queue.nodev

    @property
    def zcrx_id(self) -> int:
        """The number by which the kernel knows the queue in this ring."""
        return self.queue.registered.zcrx_id

    @property
    def rx_buf_len(self) -> int:
        """Bytes of a buffer, as the kernel settled it."""
        return self.queue.registered.rx_buf_len

    @property
    def areas(self) -> list[Area]:
        """The areas, in the order of their tokens."""
        return self.queue.areas

    @property
    def area(self) -> Area:
        """The area it was registered with."""
        return self.queue.areas[0]

    @property
    def rq(self) -> RefillQueue:
        """The refill queue."""
        return self.queue.rq

    @property
    def total_bytes(self) -> int:
        """Bytes ever received."""
        return self.account.bytes

    @property
    def rq_entries(self) -> int:
        """Size of the refill queue, as the kernel settled it."""
        return self.rq.entries

    def add_area(self, area: Area) -> None:
        """Give the kernel one area more, at any time; areas never go before the ring does.

        Of the same kind (memory or dmabuf) as the first, and fit for its rx_buf_len.

        Raises AreaInUse, NotSupported (EOPNOTSUPP: before Linux 7.3), InvalidRequest
        (EINVAL), OutOfRange (ERANGE), NoMemory, BadAreaMemory (EFAULT), InterfaceGone.
        Kernel: ``io_uring/zcrx.c:zcrx_ctrl_add_area()`` (7.3).
        """
        self._check_usable()
        self.queue.add_area(area)
        self._half += area.size_bytes // self.rx_buf_len // 2
        self.relief.area_added()

    # -- receiving ----------------------------------------------------------

    def receive(
        self, sock: socket.socket | int, *, limit: int | None = None, context: object = None
    ) -> Request:
        """Receive from a connected TCP socket (or its descriptor), to the end or *limit* bytes.

        The request holds a descriptor of its own until it is over: closing *sock* before
        that closes no connection, and the peer sees no FIN. Cancel the request first, or
        shut the socket down. Sets SO_OOBINLINE on it, so that lost urgent data is noticed;
        on a NIC, a process that may has it dropped (:mod:`pyzcrx.urgent`). At most one
        request a socket.

        Raises BadArgument (limit), NotTcp (EPROTONOSUPPORT, ENOTSOCK),
        NotConnected (ENOTCONN, EBADF), InterfaceGone (ENODEV), WrongThread,
        ClosedError. What fails later comes as a Failed event.
        """
        request = self._request(sock, limit, context)
        request.arm()
        self._stats.connections += 1
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
        an eighth of the area. TCP stops a peer that sends more. timeout: how many seconds a
        call waits while nothing arrives; None: for ever.

        The first read arms the request. Keep *sock* open until :meth:`Stream.close`, which
        leaves it open. At most one stream or request a socket. Raises BadArgument, and what
        :meth:`receive` raises.

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

    def _reading(self, sock: socket.socket | int, room_bytes: int | None) -> Reading:
        """A connection for a reader, as :meth:`stream` describes."""
        least = 2 * self.rx_buf_len
        room = max(least, self.area.size_bytes // 8)
        if room_bytes is not None:
            room = integer("room_bytes", room_bytes, least, MOST_BYTES)
        request = self._request(sock, None, None)
        reading = Reading(self._delivery.inboxes, request, room, self.rx_buf_len)
        if not self.nodev:  # else what lies in the socket does not lie in the area
            request.bound(room // 2)
        request.put_off()
        self._stats.connections += 1
        return reading

    def _request(self, sock: socket.socket | int, limit: int | None, context: object) -> Request:
        """A request that is not armed yet. Raises what :meth:`receive` does."""
        self.check_receives()
        checked_limit(limit)
        fd = number_of(sock)
        held = hold(fd, "receive")
        check(lib.pz_tcp_ready(held.number), "receive", f"fd {fd}")
        if not self.nodev:
            with suppress(NotPermitted):  # then its listener's filter, which it has, must do
                drop_urgent(held.number)
        request = Request(self, fd, held, limit, context)
        self._requests[request.token] = request
        return request

    def lease(self, off: int, length: int, token: int = 0) -> Buffer:
        """The buffer of one completion. Raises CorruptRing where the area has no such place."""
        memory, at = self.queue.locate(off, length)
        self.relief.measure(self.request(token))
        buffer = self._buffer_type(self.account, memory, at, length, off, token)
        if isinstance(buffer, debug.DebugBuffer):
            buffer.leased_at = caller()
        return buffer

    def lease_run(
        self, into: list[Any], request: Request, start: int, stop: int, *, bare: bool = False
    ) -> None:
        """Lease one run of the ring's columns, each at the end of *into*.

        As a Data event, or as the Buffer itself (*bare*).
        """
        columns = self.ring.columns
        self.relief.measure(request)
        done = self.account.lease_run(
            into,
            self._make_bare if bare else self._make_data,
            request,
            self._buffer_type,
            self.queue.memories,
            columns.offs,
            columns.lengths,
            start,
            stop,
            request.token,
        )
        if done < stop:
            self.queue.locate(columns.offs[done], columns.lengths[done])

    def request(self, token: int) -> Request | None:
        """The request of that token, while anybody knows it."""
        return self._requests.get(token)

    @property
    def crowded(self) -> bool:
        """Whether more than half of its buffers are out."""
        return self.account.leased > self._half

    # -- giving back ----------------------------------------------------------

    @property
    def rq_view(self) -> memoryview:
        """The refill queue, read-only, as :mod:`pyzcrx.uapi` describes; readable after close."""
        return self.rq.view

    @property
    def held_back(self) -> int:
        """References given back that found no room in the refill queue yet."""
        return self.account.count

    def flush(self) -> bool:
        """ZCRX_CTRL_FLUSH_RQ: have the kernel take what is in the refill queue, now.

        Gives whether it took any. Kernels before 7.2 cannot; then nothing happens.
        """
        self._check_usable()
        return self.queue.flush()

    def give_back(self) -> None:
        """Hand what was released to the kernel, as far as there is room."""
        self._check_usable()
        account, rq = self.account, self.rq
        pending = account.push()
        while account.count and self.flush():
            pending = account.push()
        if pending > rq.entries:
            raise CorruptRing(f"the refill queue's head {rq.head} is beyond its tail {rq.tail}")
        if self.flush_at and pending >= self.flush_at:
            self.flush()

    # -- requests that wait -----------------------------------------------------

    def wait(self, request: Request, state: State) -> None:
        """*request* is not armed until what *state* says."""
        self._stats.rearms += state is not State.PAUSED
        self._stats.alloc_failures += state is State.STARVED
        self.waiting.add(request, state)

    @property
    def parked(self) -> int:
        return len(self.waiting)

    @property
    def wait_ns(self) -> int:
        waits = [self.waiting.wait_ns, self.relief.wait_ns, self.notices.wait_ns]
        if self.account.count:  # without FLUSH_RQ the kernel reads a full queue in its own time
            waits.append(SHORT_NS)
        return min((ns for ns in waits if ns >= 0), default=-1)

    def settle(self) -> int:
        account, relief, waiting = self.account, self.relief, self.waiting
        # Read first: what other threads give while we push is for the next turn.
        given = account.given if waiting.starved else 0
        if account.settle(self._act_at, relief.most):
            if not (self.notices.fired or waiting or relief.narrowed):
                return -1
        else:
            self.give_back()
        if self.notices.fired:
            if EventType.ALLOC_FAIL in self.notices.fired:
                relief.card_starved()
            self.notices.settle()
        if account.leased > relief.most or account.copies_bytes or relief.slowed:
            relief.settle()
        if waiting.starved:
            self.flush()
            waiting.go_on_starved(given)
        if waiting.postponed:
            waiting.go_on_postponed()
        return self.wait_ns

    def abandon(self) -> None:
        self.waiting.abandon()

    def check_interface(self) -> None:
        """Some link has gone: if it was ours, every request fails with InterfaceGone."""
        if self.gone is not None or not self.queue.interface_gone():
            return
        where = f"{self.interface}, queue {self.rx_queue}"
        self.gone = kernel_error(errno.ENODEV, "receive", where)
        for request in (*self.ring.operations(), *self.waiting.requests()):
            if isinstance(request, Request) and request.ifq is self:
                request.cancel()

    # -- figures and the end ------------------------------------------------------

    def stats(self) -> ReceiverStats:
        """The figures so far."""
        account, counts = self.account, self.notices.counts
        oldest = account.oldest(1)
        held_ns = time.monotonic_ns() - oldest[0].since_ns if oldest else 0
        stats = ReceiverStats(
            bytes=self.total_bytes,
            buffers=account.taken,
            connections=self._stats.connections,
            rearms=self._stats.rearms,
            alloc_failures=self._stats.alloc_failures + counts[EventType.ALLOC_FAIL],
            held_buffers=account.leased + account.copies,
            held_max_ns=max(account.held_max_ns, held_ns),
        )
        if self.nodev:
            stats.bytes_zero_copy, stats.bytes_copied = 0, stats.bytes
        else:
            counted = self.queue.copied_bytes
            stats.bytes_zero_copy = None
            if counted is not None:
                stats.bytes_copied = counted + account.copied_bytes
            else:
                stats.bytes_copied = account.copied_bytes or None
        return stats

    def audit(self) -> Audit:
        """Where every reference is: each in exactly one place.

        Owner thread only; costs a look at every completion that was not dealt with.
        Raises AccountingError, CorruptRing, ClosedError.
        """
        self._check_usable()
        return audit(self)

    def holders(self, most: int = 10) -> list[Holder]:
        """The buffers that are out longest. From any thread, also after close."""
        return holders(self, integer("most", most, 0, sys.maxsize))

    @property
    def hold_times(self) -> tuple[int, ...]:
        """References given back, by how long they were out: entry i counts [2**i, 2**(i+1)) ns."""
        return self.account.histogram

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("the ifq was closed with its ring")
        self.ring.check_usable()

    def check_receives(self) -> None:
        """Raise what keeps a request from being armed."""
        self._check_usable()
        if self.gone is not None:
            raise self.gone

    def die(self) -> None:
        self.account.orphaned = True
        self.queue.forget_memory()

    def closed_by_ring(self) -> None:
        self._closed = True
        bound.discard(self)
        self.relief.closed_by_ring()
        for request in list(self._requests.values()):
            request.closed_by_ring()
        self.queue.closed_by_ring()

    def __repr__(self) -> str:
        where = "NODEV" if self.nodev else f"{self.interface} queue {self.rx_queue}"
        return f"<Ifq {where}, {self.account.leased} references out>"

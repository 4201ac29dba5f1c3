"""A ring's use of an interface queue: its requests, what it gives back, its figures.

:class:`pyzcrx.Ifq`, which users hold, is made of it.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from pyzcrx._common.caller import caller
from pyzcrx._common.checked import number_of
from pyzcrx._kernel._ffi import check
from pyzcrx._kernel.meanings import kernel_error, typed
from pyzcrx._lease import Account
from pyzcrx._pressure.policy import Pressure
from pyzcrx._pressure.relief import Relief
from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx._queue import bound
from pyzcrx._queue.area import Area, check_readable
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.notices import Notices
from pyzcrx._queue.queue import InterfaceQueue
from pyzcrx._receive import debug
from pyzcrx._receive.events import Data
from pyzcrx._receive.protocol import ReceiveProtocol
from pyzcrx._receive.request import Request, State, checked_limit
from pyzcrx._receive.waiting import SHORT_NS, Waiting
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.roles import NEVER
from pyzcrx._ring.tokens import TOKEN_IFQ_SHIFT, TOKEN_RECEIVE
from pyzcrx.errors import (
    ClosedError,
    CorruptRing,
    KernelError,
)
from pyzcrx.uapi import EventType


class IfqCore:
    """One slot of a ring. Owner thread only, but for the release of buffers."""

    _closed = True

    def __init__(
        self,
        ring: RingCore,
        slot: int,
        queue: InterfaceQueue,
        pressure: Pressure | None = None,
    ) -> None:
        self.ring = ring
        self.slot = slot
        self.token = TOKEN_RECEIVE | slot << TOKEN_IFQ_SHIFT
        """What the tokens of its requests have in common."""
        self.queue = queue
        self.nodev = queue.nodev
        """Whether there is no NIC, so that the kernel copies."""
        self.interface, self.ifindex = queue.interface, queue.ifindex
        """The primary name as it was at registration, and the index; NODEV: None and 0."""
        self.rx_queue = queue.rx_queue
        """The number of the rx queue; None: NODEV."""
        self.areas = queue.areas
        """The areas, in the order of their tokens."""
        self.area = queue.areas[0]
        """The area it was registered with."""
        self.rq = queue.rq
        """The refill queue."""
        self.rq_entries = queue.rq.entries
        """Size of the refill queue, as the kernel settled it."""
        self.rx_buf_len = queue.registered.rx_buf_len
        """Bytes of a buffer, as the kernel settled it."""
        self.zcrx_id = queue.registered.zcrx_id
        """The number by which the kernel knows the queue in this ring."""
        self.face: Any = None
        """What users hold."""
        self.account = Account()
        self.account.poison = ring.debug
        self.account.rq = queue.rq._shared
        self._buffer_type = debug.DebugBuffer if ring.debug else Buffer
        self._make_data = debug.data if ring.debug else Data
        self._make_bare = debug.mark if ring.debug else None
        self.account.lease_as(
            self._buffer_type, self._make_data, self._make_bare, queue.memories, queue.looks
        )
        self.notices = Notices(queue.arm_notice)
        """ALLOC_FAIL and COPY of the kernel, counted in ``notices.counts``."""
        ring.watch(self.notices, queue.registered.notice_token)
        # Half a queue or a quarter of the area, whatever fills first: NODEV
        # drains nothing by itself.
        buffers = self.area.size_bytes // self.rx_buf_len
        self.account.crowded_above = self.account.spill_above = buffers // 2
        self.flush_at = max(1, min(self.rq_entries // 2, buffers // 4)) if self.nodev else 0
        self.account.act_at = self.flush_at or self.rq_entries + 1
        # Without a NIC sockets hold nothing of the area.
        self.waiting = Waiting(ring, self.account, (lambda: False) if self.nodev else self.make_way)
        self.plain_bytes = 0
        self.unread: Callable[[], bool] | None = None
        """Receives what streams that nobody reads have in their sockets; None: no streams."""
        self._closed = False
        self.gone: KernelError | None = None
        """InterfaceGone, once the NIC was taken away: nothing will be received any more."""
        self._stats = ReceiverStats()
        self.relief = Relief(self, pressure)
        waiting = self.waiting
        self.unrest = (
            self.notices.fired,
            *(waiting.starved, waiting.postponed, waiting.paused),
            self.relief.narrowed,
        )
        bound.add(self)

    def add_area(self, area: Area) -> None:
        """See :meth:`pyzcrx.Ifq.add_area`."""
        self.check_usable()
        self.queue.add_area(area)
        self.account.spill_above += area.size_bytes // self.rx_buf_len // 2
        self.relief.area_added()

    def make_way(self) -> bool:
        """The area is full of what lies in sockets: receive what of it is for streams."""
        return self.unread is not None and self.unread()

    # -- receiving ----------------------------------------------------------

    def new_request(self, sock: socket.socket | int, limit: int | None, context: object) -> Request:
        """A request that is not armed yet. Raises what :meth:`pyzcrx.Ifq.receive` does."""
        self.check_receives()
        if limit is not None:
            limit = checked_limit(limit)
        # Nearly all are sockets, which need no check.
        fd = sock.fileno() if type(sock) is socket.socket else number_of(sock)
        protocol = ReceiveProtocol(limit)
        try:
            return Request(self.ring, self.slot, self, fd, not self.nodev, protocol, context)
        except OSError as error:
            if isinstance(error, KernelError):
                raise
            raise typed(error, "receive", f"fd {fd}") from None

    def begin(self, request: Request) -> None:
        """Hand a new request to the kernel."""
        check(self.ring.arm(request, self.zcrx_id), "receive")
        self._stats.connections += 1

    def put_off(self, request: Request) -> None:
        """Begin a new request that receives nothing before it is resumed."""
        request._put_off()
        self._stats.connections += 1

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
        request: Request | None = self.ring.enlisted(token)
        return request

    @property
    def crowded(self) -> bool:
        """Whether more than half of its buffers are out."""
        return self.account.leased > self.account.spill_above

    # -- giving back ----------------------------------------------------------

    def flush(self) -> bool:
        """See :meth:`pyzcrx.Ifq.flush`."""
        self.check_usable()
        return self.queue.flush()

    def give_back(self) -> None:
        """Hand what was released to the kernel, as far as there is room."""
        self.check_usable()
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
        """Requests that wait to be armed again."""
        return len(self.waiting)

    @property
    def wait_ns(self) -> int:
        waits = [self.waiting.wait_ns, self.relief.wait_ns, self.notices.wait_ns]
        if self.account.count:  # without FLUSH_RQ the kernel reads a full queue in its own time
            waits.append(SHORT_NS)
        return min((ns for ns in waits if ns != NEVER), default=NEVER)

    def settle(self) -> int:
        account, relief, waiting = self.account, self.relief, self.waiting
        # Read first: what other threads give while we push is for the next turn.
        given = account.given if waiting.starved else 0
        if account.settle():
            if not any(self.unrest):
                return NEVER
        else:
            self.give_back()
        if self.notices.fired:
            if EventType.ALLOC_FAIL in self.notices.fired:
                relief.card_starved()
            self.notices.settle()
        if account.leased > account.most or account.copies_bytes or relief.slowed:
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
        where = f"{self.queue.interface}, queue {self.queue.rx_queue}"
        self.gone = kernel_error(errno.ENODEV, "receive", where)
        for request in (*self.ring.operations(), *self.waiting.requests()):
            if isinstance(request, Request) and request._ifq is self:
                request.cancel()

    # -- figures and the end ------------------------------------------------------

    @property
    def total_bytes(self) -> int:
        """See :attr:`pyzcrx.Ifq.total_bytes`."""
        return self.account.bytes + self.plain_bytes

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
                stats.bytes_copied = counted + account.copied_bytes + self.plain_bytes
            else:
                stats.bytes_copied = account.copied_bytes + self.plain_bytes or None
        return stats

    def check_usable(self) -> None:
        """Raise unless the calling thread may use it now."""
        if self._closed:
            raise ClosedError("the ifq was closed with its ring")
        self.ring.check_usable()

    def check_readable(self, what: str) -> None:
        """Raise UnreadableMemory where *what* cannot be done with what it receives."""
        for memory in self.queue.memories:
            check_readable(memory, what)

    def check_receives(self) -> None:
        """Raise what keeps a request from being armed."""
        ring = self.ring
        # Once for each connection: check_usable() alone is two calls more.
        if self._closed or ring._state is not None or not ring.owned:
            self.check_usable()
        if self.gone is not None:
            raise self.gone

    def die(self) -> None:
        self.account.orphaned = True
        self.queue.forget_memory()

    def closed_by_ring(self) -> None:
        self._closed = True
        bound.discard(self)
        self.relief.closed_by_ring()
        for request in self.ring.enlisted_on(self.slot):
            request._closed_by_ring()
        self.queue.closed_by_ring()

"""An interface queue: one rx queue (or none, NODEV), its area, its refill queue.

Kernel: ``io_uring/zcrx.c:io_register_zcrx()``, IORING_REGISTER_ZCRX_IFQ (6.15);
ZCRX_REG_NODEV and ZCRX_CTRL_FLUSH_RQ by 7.2.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Literal

from pyzcrx._ffi import check, ffi, lib
from pyzcrx._lease import Account, Span
from pyzcrx.area import Area
from pyzcrx.buffer import Buffer
from pyzcrx.errors import (
    BadArgument,
    ClosedError,
    CorruptRing,
    KernelError,
    kernel_error,
)
from pyzcrx.memory import PAGE, Mapping
from pyzcrx.receive import Request
from pyzcrx.refill import RefillQueue, region_bytes
from pyzcrx.ring import TOKEN_SLOT_MASK, TOKEN_SLOT_SHIFT, RingCore
from pyzcrx.stats import ReceiverStats
from pyzcrx.uapi import OFFSET_MASK, RQ_MAX_ENTRIES, CtrlOp, RegisterFlag

RqMemory = Literal["user", "kernel"]

_SHORT_WAIT_NS = 1_000_000
_MAX_SLOTS = TOKEN_SLOT_MASK >> TOKEN_SLOT_SHIFT


def _interface_index(interface: str | int) -> int:
    if isinstance(interface, int):
        if not 0 < interface < 1 << 31:
            raise BadArgument(f"interface index {interface} is out of range")
        return interface
    try:
        return socket.if_nametoindex(interface)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.ENODEV
        raise kernel_error(number, "register ifq", str(interface)) from None


class Ifq:
    """Made by :meth:`pyzcrx.Ring.register_ifq`; closed with its ring.

    Owner thread only, but for the release of buffers. ``rx_buf_len`` is the size
    of a buffer in bytes, ``rq_entries`` that of the refill queue, as the kernel
    settled them.
    """

    def __init__(
        self,
        ring: RingCore,
        slot: int,
        area: Area,
        *,
        interface: str | int | None = None,
        rx_queue: int | None = None,
        rq_entries: int = 4096,
        rq_memory: RqMemory = "user",
        rx_buf_len: int = 0,
    ) -> None:
        """Use :meth:`pyzcrx.Ring.register_ifq`."""
        if slot > _MAX_SLOTS:
            raise BadArgument(f"a ring has room for {_MAX_SLOTS + 1} ifqs")
        if not 1 <= rq_entries <= RQ_MAX_ENTRIES:
            raise BadArgument(f"rq_entries {rq_entries} is not between 1 and {RQ_MAX_ENTRIES}")
        if rq_memory not in ("user", "kernel"):
            raise BadArgument(f"rq_memory must be 'user' or 'kernel', not {rq_memory!r}")
        if rx_buf_len and (rx_buf_len < PAGE or rx_buf_len & (rx_buf_len - 1)):
            raise BadArgument(f"rx_buf_len {rx_buf_len} is not a power of two of at least a page")
        if (interface is None) != (rx_queue is None):
            raise BadArgument("give both interface and rx_queue, or neither for NODEV")
        if rx_queue is not None and not 0 <= rx_queue < 1 << 31:
            raise BadArgument(f"rx_queue {rx_queue} is out of range")
        if area.token is not None:
            raise BadArgument("the area serves another ifq; make one for each")
        self.ring = ring
        self.slot = slot
        self.area = area
        self.interface = interface
        self.rx_queue = rx_queue
        self.account = Account()
        self._register(
            _interface_index(interface) if interface is not None else 0,
            1 << (rq_entries - 1).bit_length(),
            rq_memory,
            rx_buf_len,
        )
        # Held to the end, although the area may be closed before.
        self._memory: Span | None = area.span
        self._can_flush = True
        # Half a queue or a quarter of the area, whatever fills first: NODEV
        # drains nothing by itself.
        buffers = area.size_bytes // self.rx_buf_len
        self._flush_at = max(1, min(self.rq_entries // 2, buffers // 4)) if self.nodev else 0
        self._starved: deque[Request] = deque()
        self._postponed: deque[Request] = deque()
        self._given_seen = 0
        self._closed = False
        self._stats = ReceiverStats()

    @property
    def nodev(self) -> bool:
        """Whether there is no card, so that the kernel copies."""
        return self.interface is None

    def _register(self, if_idx: int, rq_entries: int, rq_memory: str, rx_buf_len: int) -> None:
        size_bytes = region_bytes(rq_entries)
        area_reg = ffi.new("struct pz_area_reg *", {
            "addr": self.area.address, "len": self.area.size_bytes,
        })
        region = ffi.new("struct pz_region_desc *", {"size": size_bytes})
        mapping = None
        if rq_memory == "user":
            mapping = Mapping.anonymous(size_bytes)
            region.user_addr = mapping.address
            region.flags = lib.PZ_MEM_REGION_TYPE_USER
        reg = ffi.new("struct pz_ifq_reg *", {
            "if_idx": if_idx,
            "if_rxq": self.rx_queue or 0,
            "rq_entries": rq_entries,
            "flags": RegisterFlag.NODEV if self.nodev else 0,
            "area_ptr": int(ffi.cast("uintptr_t", area_reg)),
            "region_ptr": int(ffi.cast("uintptr_t", region)),
            "rx_buf_len": rx_buf_len,
        })
        result = lib.pz_register_ifq(self.ring.raw, reg)
        if result < 0 and mapping is not None:
            # Not left to the garbage collector: a kept exception would keep it too.
            mapping.close()
        if self.nodev:
            check(result, "register ifq NODEV")
        else:
            check(result, "register ifq", f"{self.interface}, queue {self.rx_queue}")
        if mapping is None:
            mapping = Mapping.of_file(self.ring.fileno(), region.mmap_offset, size_bytes)
        self._shared_with_kernel = rq_memory == "kernel"
        self.zcrx_id = int(reg.zcrx_id)
        self.rq_entries = int(reg.rq_entries)
        self.rx_buf_len = int(reg.rx_buf_len) or rx_buf_len or PAGE
        self.area.token = int(area_reg.rq_area_token)
        self.rq = RefillQueue(
            mapping, self.rq_entries,
            head=reg.offsets.head, tail=reg.offsets.tail, rqes=reg.offsets.rqes,
        )

    # -- receiving ----------------------------------------------------------

    def receive(
        self, sock: socket.socket | int, *, limit: int | None = None, context: object = None
    ) -> Request:
        """Receive from a connected TCP socket (or its descriptor), to the end or *limit* bytes.

        Keep the socket open until the request is over. Sets SO_OOBINLINE on it,
        so that lost urgent data is noticed. At most one request a socket.

        Raises BadArgument (limit), NotTcp (EPROTONOSUPPORT, ENOTSOCK),
        NotConnected (ENOTCONN, EBADF), WrongThread, ClosedError. What fails
        later comes as a Failed event.
        """
        self._check_usable()
        fd = sock if isinstance(sock, int) else sock.fileno()
        check(lib.pz_tcp_ready(fd), "receive", f"fd {fd}")
        request = Request(self, fd, limit, context)
        request.arm()
        self._stats.connections += 1
        return request

    def received(self, size_bytes: int, references: int) -> None:
        """*references* completions brought *size_bytes*."""
        self.account.now_ns = self.ring.now_ns
        self.account.take(references)
        self._stats.bytes += size_bytes
        self._stats.buffers += references

    def locate(self, off: int, length: int) -> tuple[Span, int]:
        """Where a completion's bytes lie: the area's memory and the byte offset in it.

        Raises CorruptRing where the area has no such place.
        """
        if self._memory is None:
            raise ClosedError("the ifq was closed with its ring")
        at = off & OFFSET_MASK
        if off - at != self.area.token or at + length > len(self._memory):
            raise CorruptRing(f"a completion names {length} bytes at {off:#x}, outside the area")
        return self._memory, at

    def lease(self, off: int, length: int) -> Buffer:
        """The buffer of one completion. Raises CorruptRing where the area has no such place."""
        memory, at = self.locate(off, length)
        return Buffer(self.account, memory, memory.address + at, length, off)

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
        before = self.rq.pending
        if not before or not self._can_flush:
            return False
        ctrl = ffi.new("struct pz_ctrl *", {"zcrx_id": self.zcrx_id, "op": CtrlOp.FLUSH_RQ})
        try:
            check(lib.pz_zcrx_ctrl(self.ring.raw, ctrl), "flush refill queue")
        except KernelError:
            self._can_flush = False
            return False
        return self.rq.pending < before

    def _give_back(self) -> None:
        account, rq = self.account, self.rq
        while account.count:
            account.drop(rq.push(account.address, account.count))
            if account.count and not self.flush():
                break
        if self._flush_at and rq.pending >= self._flush_at:
            self.flush()

    # -- requests that wait -----------------------------------------------------

    def postpone(self, request: Request) -> None:
        """Arm it again once the ring's overflow list is empty."""
        self._stats.rearms += 1
        self._postponed.append(request)

    def starve(self, request: Request) -> None:
        """Arm it again once the area has free buffers."""
        self._stats.rearms += 1
        self._stats.alloc_failures += 1
        self._starved.append(request)

    @property
    def parked(self) -> int:
        return len(self._starved) + len(self._postponed)

    def settle(self, *, futile: bool) -> int:
        self._give_back()
        if self._starved:
            self._feed_starved(futile)
        if self._postponed and not self.ring.overflowed:
            self._arm_postponed()
        if self._postponed:
            return 0
        # Without FLUSH_RQ the kernel looks at a full queue in its own time.
        return _SHORT_WAIT_NS if self.account.count else -1

    def _feed_starved(self, futile: bool) -> None:
        """As many as buffers came back, first come first served.

        More would only meet ENOMEM again, each at the price of a request.
        """
        self.flush()
        came_back = self.account.given - self._given_seen
        self._given_seen = self.account.given
        waiting, self._starved = self._starved, deque()
        armed = 0
        for request in waiting:
            if request.stopping:
                self.ring.post(request.give_up(errno.ECANCELED))
            elif armed < came_back or request.protocol.worth_another_flush:
                armed += 1
                request.arm()
            else:
                self._starved.append(request)
        # Nothing came back, nothing is out: nothing will come. Or all is out, and
        # the caller would wait here for itself to release it.
        if not armed and not self._postponed and (futile or self.account.leased == 0):
            while self._starved:
                self.ring.post(self._starved.popleft().give_up(errno.ENOMEM))

    def _arm_postponed(self) -> None:
        """A few at a time: all at once would overflow the completion queue again."""
        for _ in range(max(1, self.ring.columns.capacity // 4)):
            if not self._postponed:
                break
            request = self._postponed.popleft()
            if request.stopping:
                self.ring.post(request.give_up(errno.ECANCELED))
            else:
                request.arm()

    # -- figures and the end ------------------------------------------------------

    def stats(self) -> ReceiverStats:
        """The figures so far."""
        stats = ReceiverStats(
            bytes=self._stats.bytes,
            buffers=self._stats.buffers,
            connections=self._stats.connections,
            rearms=self._stats.rearms,
            alloc_failures=self._stats.alloc_failures,
            held_buffers=self.account.leased,
            held_max_ns=self.account.held_max_ns,
        )
        if self.nodev:
            stats.bytes_zero_copy, stats.bytes_copied = 0, stats.bytes
        else:
            stats.bytes_zero_copy = stats.bytes_copied = None
        return stats

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("the ifq was closed with its ring")
        self.ring.check_usable()

    def closed_by_ring(self) -> None:
        self._closed = True
        self.area.token = None
        self._memory = None
        if self._shared_with_kernel:
            self.rq.mapping.detach()

    def __repr__(self) -> str:
        where = "NODEV" if self.nodev else f"{self.interface} queue {self.rx_queue}"
        return f"<Ifq {where}, {self.account.leased} references out>"

"""A kernel in memory, at the level of the shim.

Everything above the shim runs for real against it: rings, ifqs, requests, the
refill queue in shared memory. It keeps the books that the kernel keeps
(``io_uring/zcrx.c``, 7.3: the free list, ``user_refs``, the overflow list) and
notes each breach of the contract in :attr:`ModelKernel.breaches`::

    with ModelKernel() as kernel, pyzcrx.Ring() as ring:
        ...
        sock = kernel.socket()
        sock.send(b"...")
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pyzcrx._common.checked import integer
from pyzcrx._kernel._ffi import FUNCTIONS, ffi
from pyzcrx._kernel.memory import PAGE
from pyzcrx.errors import NotSupported
from pyzcrx.testing.pool import Pool
from pyzcrx.testing.requests import Accept, Cancel, Poll, Receive, Refused, Request
from pyzcrx.testing.rings import ModelRing
from pyzcrx.testing.sends import RefusedZeroCopy, Send, SendZeroCopy
from pyzcrx.testing.sockets import ModelListener, ModelSocket, identity
from pyzcrx.testing.stand_in import StandIn, complete
from pyzcrx.uapi import CtrlOp, RegisterFlag


class ModelKernel:
    """A kernel with NODEV zcrx, one ifq a ring, that copies into the area.

    Requests receive, accept and send on its own sockets (:meth:`socket`, :meth:`listen`), and
    poll any descriptor. What it does not have raises NotSupported, which names it. A turn does
    not wait for the sockets: it returns at once, with or without completions.

    cq_entries: room in the completion queue, however large the ring believes it
    to be. takes: how many refill entries the kernel takes by itself each turn (0:
    none, as with NODEV; then only a flush does).
    """

    def __init__(self, *, cq_entries: int = 4096, takes: int = 0) -> None:
        self.cq_entries = integer("cq_entries", cq_entries, 1, 1 << 20)
        self.takes = integer("takes", takes, 0, 1 << 20)
        self.flushes = 0
        """How many flushes of a refill queue it was asked for."""
        self._pool = Pool()
        self._before: list[Pool] = []
        self._sockets: dict[int | None, ModelSocket | ModelListener] = {}
        self._rings: dict[Any, ModelRing] = {}
        self._stand_in: StandIn | None = None

    def __enter__(self) -> Self:
        if self._stand_in is None:
            self._stand_in = StandIn(complete(self._functions()))
            self._stand_in.put()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stand_in is not None:
            self._stand_in.take_back()
            self._stand_in = None
        for sock in self._sockets.values():
            sock.close()

    # -- the outside world --------------------------------------------------

    def socket(self) -> ModelSocket:
        """A new connection."""
        sock = ModelSocket(self._changed)
        self._sockets[identity(sock.fileno())] = sock
        return sock

    def listen(self) -> ModelListener:
        """A new listening socket."""
        listener = ModelListener(self._changed, self.socket)
        self._sockets[identity(listener.fileno())] = listener
        return listener

    def _changed(self) -> None:
        """Something happened, which a turn might bring."""
        for ring in self._rings.values():
            ring.changed()

    def _connection(self, fd: int) -> ModelSocket | None:
        found = self._sockets.get(identity(fd))
        return found if isinstance(found, ModelSocket) else None

    # -- its books: of the ifq that was registered last ---------------------------

    @property
    def breaches(self) -> list[str]:
        """What was done to it that a kernel would not forgive, on any ring."""
        return [breach for pool in (*self._before, self._pool) for breach in pool.breaches]

    @property
    def niovs(self) -> int:
        """Buffers of the area."""
        return self._pool.niovs

    @property
    def free(self) -> list[int]:
        """Those of them that nobody has."""
        return self._pool.free

    @property
    def user_refs(self) -> list[int]:
        """How many references to each are with the user."""
        return self._pool.user_refs

    @property
    def out(self) -> int:
        """References that the kernel believes to be with the user."""
        return sum(self.user_refs)

    # -- the shim's calls: the ring ---------------------------------------------

    def _functions(self) -> dict[str, Any]:
        """What it has of the shim: the methods below."""
        found = {name: getattr(self, f"_{name}", None) for name in FUNCTIONS}
        return {name: function for name, function in found.items() if function is not None}

    def _pz_ring_init(
        self, raw: Any, _sq: int, cq: int, _flags: int, memory: int, _size_bytes: int
    ) -> int:
        self._rings[raw] = ModelRing(memory, 1 << (cq - 1).bit_length(), self.cq_entries)
        return 0

    def _pz_ring_exit(self, raw: Any) -> None:
        ring = self._rings.pop(raw, None)
        if ring is not None:
            ring.close()

    def _pz_ring_fd(self, raw: Any) -> int:
        ring = self._rings.get(raw)
        return -1 if ring is None else ring.fd

    def _pz_ring_cq(self, raw: Any, cq: Any) -> None:
        """All of it in the ring's memory, and empty: completions go straight to the columns."""
        ring = self._rings[raw]
        cq.entries = ring.entries
        cq.head, cq.tail, cq.flags = ring.memory, ring.memory + 4, ring.memory + 8
        cq.cqes = ring.memory + 64

    def _pz_ring_gathers(self, _raw: Any) -> int:
        return 0

    def _pz_ring_signals(self, raw: Any, eventfd: int) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        ring.signal = eventfd
        return 0

    def _pz_ring_submit(self, raw: Any) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        ring.submitted()
        return 0

    def _pz_ring_pending(self, raw: Any) -> int:
        ring = self._rings.get(raw)
        return int(ring is not None and ring.pending)

    def _pz_ring_turn(
        self, raw: Any, timeout_ns: int, _gather_nr: int, _gather_us: int, columns: Any
    ) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        return ring.turn(timeout_ns, self.takes, columns)

    # -- the shim's calls: zcrx -------------------------------------------------

    def _pz_register(self, *_: object) -> int:
        return -errno.EINVAL

    def _pz_register_ifq(self, raw: Any, reg: Any) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        if not reg.area_ptr or not reg.region_ptr:
            return -errno.EFAULT
        area = ffi.cast("struct pz_area_reg *", reg.area_ptr)
        region = ffi.cast("struct pz_region_desc *", reg.region_ptr)
        if not reg.flags & RegisterFlag.NODEV or not region.user_addr:
            return -errno.EOPNOTSUPP
        if ring.pool.serves:
            raise NotSupported(
                errno.EOPNOTSUPP, "register ifq", "a ring in memory has one ifq", "use that"
            )
        reg.offsets.head, reg.offsets.tail, reg.offsets.rqes = 0, 4, 64
        reg.zcrx_id, reg.rx_buf_len = 0, PAGE
        area.rq_area_token = 0
        ring.pool.serve(area, region, reg.rq_entries)
        self._before.append(self._pool)
        self._pool = ring.pool
        return 0

    def _pz_zcrx_ctrl(self, raw: Any, ctrl: Any) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        if ctrl.op != CtrlOp.FLUSH_RQ:
            return -errno.EOPNOTSUPP
        self.flushes += 1
        ring.pool.take_refill()
        return 0

    # -- the shim's calls: requests ---------------------------------------------

    def _prepare(self, raw: Any, make: Callable[[ModelRing], Request]) -> int:
        ring = self._rings.get(raw)
        if ring is None:
            return -errno.EBADF
        ring.prepare(make(ring))
        return 0

    def _pz_prep_recv_zc(self, raw: Any, fd: int, _zcrx_id: int, length: int, token: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return self._prepare(raw, lambda _: Refused(token, errno.ENOTCONN))
        return self._prepare(raw, lambda ring: Receive(token, sock, ring.pool, length))

    def _pz_prep_accept(self, raw: Any, fd: int, token: int) -> int:
        listener = self._sockets.get(identity(fd))
        if not isinstance(listener, ModelListener):
            return self._prepare(raw, lambda _: Refused(token, errno.EINVAL))
        return self._prepare(raw, lambda _: Accept(token, listener))

    def _pz_prep_send(self, raw: Any, fd: int, _msg: Any, iov: Any, n: int, token: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return self._prepare(raw, lambda _: Refused(token, errno.ENOTCONN))
        return self._prepare(raw, lambda _: Send(token, sock, iov, n))

    def _pz_prep_send_zc(self, raw: Any, fd: int, _msg: Any, iov: Any, n: int, token: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return self._prepare(raw, lambda _: RefusedZeroCopy(token, errno.ENOTCONN))
        return self._prepare(raw, lambda _: SendZeroCopy(token, sock, iov, n))

    def _pz_prep_poll(self, raw: Any, fd: int, events: int, multishot: int, token: int) -> int:
        return self._prepare(raw, lambda _: Poll(token, fd, events, bool(multishot)))

    def _pz_prep_cancel(self, raw: Any, target: int, anything: int, token: int) -> int:
        return self._prepare(raw, lambda ring: Cancel(token, target, bool(anything), ring.armed))

    # -- the shim's calls: sockets ----------------------------------------------

    def _pz_tcp_ready(self, fd: int, _drop_urgent: int) -> int:
        sock = self._sockets.get(identity(fd))
        if sock is None:
            return -errno.EBADF
        return 0 if isinstance(sock, ModelSocket) else -errno.ENOTCONN

    def _pz_leaves(self, fd: int) -> int:
        sock = self._connection(fd)
        return -errno.EBADF if sock is None else not sock.local

    def _pz_disconnect(self, fd: int) -> int:
        sock = self._connection(fd)
        if sock is not None:
            sock.reset()
        return 0 if sock is not None else -errno.EBADF

    def _pz_rcvbuf_get(self, fd: int, rcvbuf: Any) -> int:
        sock = self._connection(fd)
        if sock is not None:
            rcvbuf.bytes = sock.rcvbuf_bytes
        return 0 if sock is not None else -errno.EBADF

    def _pz_rcvbuf_narrow(self, fd: int, size_bytes: int) -> int:
        sock = self._connection(fd)
        if sock is not None:
            sock.rcvbuf_bytes = size_bytes
        return 0 if sock is not None else -errno.EBADF

    def _pz_rcvbuf_restore(self, fd: int, rcvbuf: Any) -> int:
        return self._pz_rcvbuf_narrow(fd, rcvbuf.bytes)

    def _pz_recv_plain(self, fd: int, plain: Any, most_bytes: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return -errno.EBADF
        if not plain.bytes:
            taken = sock._take(memoryview(ffi.buffer(plain.data))[:most_bytes])
            if taken < 0:
                return taken
            plain.bytes = taken
        return int(plain.bytes)

    def _pz_unread(self, fd: int) -> int:
        sock = self._connection(fd)
        return -errno.EBADF if sock is None else sock.unread_after_end

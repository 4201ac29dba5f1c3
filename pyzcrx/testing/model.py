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
import os
import select
from collections import deque
from types import TracebackType
from typing import Any, Self

from pyzcrx._ffi import FUNCTIONS, ffi, lib
from pyzcrx.checked import integer
from pyzcrx.errors import NotSupported
from pyzcrx.memory import PAGE
from pyzcrx.testing.completions import Completions
from pyzcrx.testing.pool import Pool
from pyzcrx.testing.requests import Accept, Poll, Receive, Refused, Request, Send
from pyzcrx.testing.sockets import ModelListener, ModelSocket, identity
from pyzcrx.testing.stand_in import StandIn, complete
from pyzcrx.uapi import CtrlOp, RegisterFlag

_MOST_WAIT_MS = 10
"""How long a turn waits for a descriptor that is polled, where nothing else happens."""


class ModelKernel:
    """A kernel with NODEV zcrx, one ring and one ifq, that copies into the area.

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
        self._pool = Pool()
        self._sockets: dict[int | None, ModelSocket | ModelListener] = {}
        self._raw: Any = None
        self._ring_fd = self._signal = -1
        self._stand_in: StandIn | None = None
        self._reset()

    def _reset(self) -> None:
        self._cq = Completions(self.cq_entries)
        self._prepared: deque[Request] = deque()
        self._armed: deque[Request] = deque()

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
        if self._signal >= 0 and (self._armed or self._prepared):
            lib.pz_signal_set(self._signal)

    def _connection(self, fd: int) -> ModelSocket | None:
        found = self._sockets.get(identity(fd))
        return found if isinstance(found, ModelSocket) else None

    # -- its books ------------------------------------------------------------

    @property
    def breaches(self) -> list[str]:
        """What was done to it that a kernel would not forgive."""
        return self._pool.breaches

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
        if self._raw is not None:
            raise NotSupported(
                errno.EOPNOTSUPP, "ring set-up", "the kernel in memory has one ring", "close it"
            )
        self._raw, self._memory, self._entries = raw, memory, 1 << (cq - 1).bit_length()
        self._ring_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return 0

    def _pz_ring_exit(self, raw: Any) -> None:
        if raw == self._raw:
            os.close(self._ring_fd)
            self._raw, self._ring_fd, self._signal = None, -1, -1
            self._pool.leave()
            self._reset()

    def _pz_ring_fd(self, raw: Any) -> int:
        return self._ring_fd if raw == self._raw else -1

    def _pz_ring_cq(self, _raw: Any, cq: Any) -> None:
        """All of it in the ring's memory, and empty: completions go straight to the columns."""
        cq.entries = self._entries
        cq.head, cq.tail, cq.flags = self._memory, self._memory + 4, self._memory + 8
        cq.cqes = self._memory + 64

    def _pz_ring_gathers(self, _raw: Any) -> int:
        return 0

    def _pz_ring_signals(self, raw: Any, eventfd: int) -> int:
        if raw != self._raw:
            return -errno.EBADF
        self._signal = eventfd
        return 0

    def _pz_ring_submit(self, raw: Any) -> int:
        if raw != self._raw:
            return -errno.EBADF
        self._changed()
        return 0

    def _pz_ring_turn(
        self, raw: Any, timeout_ns: int, _gather_nr: int, _gather_us: int, columns: Any
    ) -> int:
        if raw != self._raw:
            return -errno.EBADF
        if not self._run() and timeout_ns:
            self._wait(timeout_ns)
        return self._cq.drain(columns)

    def _run(self) -> bool:
        """Serve every request once; gives whether there are completions."""
        for request in self._prepared:
            if isinstance(request, _Cancel):
                request.go_on(self._cq)
            else:
                self._armed.append(request)
        self._prepared.clear()
        self._pool.take_refill(self.takes)
        for _ in range(len(self._armed)):
            request = self._armed.popleft()
            if not request.go_on(self._cq):
                self._armed.append(request)
        return self._cq.waiting

    def _wait(self, timeout_ns: int) -> None:
        """For a while, for what is polled."""
        poll = select.poll()
        polled = [request for request in self._armed if isinstance(request, Poll)]
        for request in polled:
            poll.register(request.fd, request.events)
        most = timeout_ns // 1_000_000 if timeout_ns > 0 else _MOST_WAIT_MS
        if polled and poll.poll(min(most, _MOST_WAIT_MS)):
            self._run()

    # -- the shim's calls: zcrx -------------------------------------------------

    def _pz_register(self, *_: object) -> int:
        return -errno.EINVAL

    def _pz_register_ifq(self, raw: Any, reg: Any) -> int:
        if raw != self._raw:
            return -errno.EBADF
        if not reg.area_ptr or not reg.region_ptr:
            return -errno.EFAULT
        area = ffi.cast("struct pz_area_reg *", reg.area_ptr)
        region = ffi.cast("struct pz_region_desc *", reg.region_ptr)
        if not reg.flags & RegisterFlag.NODEV or not region.user_addr:
            return -errno.EOPNOTSUPP
        if self._pool.serves:
            raise NotSupported(
                errno.EOPNOTSUPP, "register ifq", "the kernel in memory has one ifq", "use that"
            )
        reg.offsets.head, reg.offsets.tail, reg.offsets.rqes = 0, 4, 64
        reg.zcrx_id, reg.rx_buf_len = 0, PAGE
        area.rq_area_token = 0
        self._pool.serve(area, region, reg.rq_entries)
        return 0

    def _pz_zcrx_ctrl(self, raw: Any, ctrl: Any) -> int:
        if raw != self._raw:
            return -errno.EBADF
        if ctrl.op != CtrlOp.FLUSH_RQ:
            return -errno.EOPNOTSUPP
        self.flushes += 1
        self._pool.take_refill()
        return 0

    # -- the shim's calls: requests ---------------------------------------------

    def _prepare(self, raw: Any, request: Request) -> int:
        if raw != self._raw:
            return -errno.EBADF
        if not (self._prepared and request.same_as(self._prepared[-1])):
            self._prepared.append(request)
        return 0

    def _pz_prep_recv_zc(self, raw: Any, fd: int, _zcrx_id: int, length: int, token: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return self._prepare(raw, Refused(token, errno.ENOTCONN))
        return self._prepare(raw, Receive(token, sock, self._pool, length))

    def _pz_prep_accept(self, raw: Any, fd: int, token: int) -> int:
        listener = self._sockets.get(identity(fd))
        if not isinstance(listener, ModelListener):
            return self._prepare(raw, Refused(token, errno.EINVAL))
        return self._prepare(raw, Accept(token, listener))

    def _pz_prep_send(self, raw: Any, fd: int, _msg: Any, iov: Any, n: int, token: int) -> int:
        sock = self._connection(fd)
        if sock is None:
            return self._prepare(raw, Refused(token, errno.ENOTCONN))
        return self._prepare(raw, Send(token, sock, iov, n))

    def _pz_prep_poll(self, raw: Any, fd: int, events: int, multishot: int, token: int) -> int:
        return self._prepare(raw, Poll(token, fd, events, bool(multishot)))

    def _pz_prep_cancel(self, raw: Any, target: int, anything: int, token: int) -> int:
        return self._prepare(raw, _Cancel(token, target, bool(anything), self._armed))

    # -- the shim's calls: sockets ----------------------------------------------

    def _pz_tcp_ready(self, fd: int) -> int:
        sock = self._sockets.get(identity(fd))
        if sock is None:
            return -errno.EBADF
        return 0 if isinstance(sock, ModelSocket) else -errno.ENOTCONN

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

    def _pz_unread(self, fd: int) -> int:
        sock = self._connection(fd)
        return -errno.EBADF if sock is None else sock.unread_after_end


class _Cancel(Request):
    """Cancels those armed before it: the request of token *target*, or all."""

    def __init__(self, token: int, target: int, anything: bool, armed: deque[Request]) -> None:
        super().__init__(token)
        self._target = target
        self._anything = anything
        self._requests = armed

    def step(self, cq: Completions) -> int:  # noqa: ARG002
        hits = [r for r in self._requests if self._anything or r.token == self._target]
        for request in hits:
            request.cancelled = True
        return len(hits) or -errno.ENOENT

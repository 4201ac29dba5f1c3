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
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pyzcrx._ffi import ffi, lib
from pyzcrx._lease import Descriptor
from pyzcrx.columns import DRAINED
from pyzcrx.testing import stand_in
from pyzcrx.uapi import AREA_SHIFT, OFFSET_MASK, CqeFlag, CtrlOp, RegisterFlag

_PAGE = 4096
_SKBS_PER_CALL = 20


class ModelSocket:
    """A connected TCP socket of the model; pass :meth:`fileno` or itself to receive.

    Has a descriptor of a real socket, which carries nothing: so that it can be duplicated,
    closed and mistaken for another one as in life.
    """

    def __init__(self, arrived: Callable[[], None]) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            self._descriptor = Descriptor(sock.fileno())
        self._arrived = arrived
        self.segments: deque[bytes] = deque()
        self.ended = False
        self.error = 0
        """An errno that the next read meets, once the data before it was read."""
        self.rcvbuf_bytes = 160 << 10
        """SO_RCVBUF; nothing here keeps to it."""
        self.unread_after_end = 0
        """What SIOCINQ answers: more than 0 models data behind an urgent byte."""

    def fileno(self) -> int:
        return self._descriptor.number

    def close(self) -> None:
        """Close the descriptor; a request in flight goes on, since it has its own."""
        self._descriptor.close()

    def send(self, data: bytes) -> None:
        """*data* arrives as one segment, copied in pages."""
        if data:
            self.segments.append(data)
            self._arrived()

    def finish(self) -> None:
        """The peer's FIN arrives."""
        self.ended = True
        self._arrived()


class _Receive:
    """One armed RECV_ZC."""

    def __init__(self, token: int, sock: ModelSocket, length: int) -> None:
        self.token = token
        self.sock = sock
        self.length = length
        self.left = length
        self.cancelled = False


class ModelKernel:
    """A kernel with NODEV zcrx, one ring and one ifq, that copies into the area.

    cq_entries: room in the completion queue, however large the ring believes it
    to be. takes: how many refill entries the kernel takes by itself each turn (0:
    none, as with NODEV; then only a flush does).
    """

    def __init__(self, *, cq_entries: int = 4096, takes: int = 0) -> None:
        self.cq_entries = cq_entries
        self.takes = takes
        self.breaches: list[str] = []
        self.flushes = 0
        self.niovs = 0
        self.user_refs: list[int] = []
        self.free: list[int] = []
        self._sockets: dict[int, ModelSocket] = {}
        self._armed: deque[_Receive] = deque()
        self._prepared: list[Callable[[], None]] = []
        self._cq: deque[tuple[int, int, int, int]] = deque()
        self._overflow: deque[tuple[int, int, int, int]] = deque()
        self._area = 0
        self._rq: Any = None
        self._mask = 0
        self._signal = -1
        """The eventfd that is told of work for the ring's owner."""

    # -- the outside world --------------------------------------------------

    def socket(self) -> ModelSocket:
        """A new connection."""
        sock = ModelSocket(self._arrived)
        self._sockets[os.fstat(sock.fileno()).st_ino] = sock
        return sock

    def _socket(self, fd: int) -> ModelSocket:
        return self._sockets[os.fstat(fd).st_ino]

    def _arrived(self) -> None:
        if self._signal >= 0 and (self._armed or self._prepared):
            lib.pz_signal_set(self._signal)

    @property
    def out(self) -> int:
        """References that the kernel believes to be with the user."""
        return sum(self.user_refs)

    def __enter__(self) -> Self:
        stand_in.put(_Lib(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stand_in.put()

    # -- completions --------------------------------------------------------

    def _post_data(self, token: int, length: int, off: int) -> bool:
        """As io_defer_get_uncommited_cqe(): no room, no CQE, and nothing on the overflow list."""
        if self._overflow or len(self._cq) >= self.cq_entries:
            return False
        self._cq.append((token, length, CqeFlag.MORE, off))
        return True

    def _post_final(self, token: int, res: int) -> None:
        full = self._overflow or len(self._cq) >= self.cq_entries
        (self._overflow if full else self._cq).append((token, res, 0, 0))

    def _flush_overflow(self) -> None:
        while self._overflow and len(self._cq) < self.cq_entries:
            self._cq.append(self._overflow.popleft())

    # -- receiving ----------------------------------------------------------

    def _run(self) -> None:
        prepared, self._prepared = self._prepared, []
        for request in prepared:
            request()
        self._take_refill(self.takes)
        for _ in range(len(self._armed)):
            request_zc = self._armed.popleft()
            if not self._progress(request_zc):
                self._armed.append(request_zc)

    def _progress(self, request: _Receive) -> bool:
        """Whether the request posted its last completion."""
        sock = request.sock
        if request.cancelled:
            self._post_final(request.token, -errno.ECANCELED)
            return True
        for _ in range(_SKBS_PER_CALL):
            if request.length and not request.left:
                self._post_final(request.token, 0)
                return True
            if not sock.segments:
                break
            res = self._copy(request)
            if res:
                self._post_final(request.token, res)
                return True
        else:
            return False
        if sock.error or sock.ended:
            self._post_final(request.token, -sock.error)
            return True
        return False

    def _copy(self, request: _Receive) -> int:
        segment = request.sock.segments[0]
        length = min(len(segment), _PAGE)
        if request.length:
            length = min(length, request.left)
        if not self.free:
            return -errno.ENOMEM
        niov = self.free[-1]
        if self.user_refs[niov]:
            self.breaches.append(f"niov {niov} is free and out at once")
        if not self._post_data(request.token, length, niov * _PAGE):
            return -errno.ENOSPC
        self.free.pop()
        ffi.memmove(ffi.cast("char *", self._area + niov * _PAGE), segment[:length], length)
        self.user_refs[niov] += 1
        request.left -= length
        request.sock.segments.popleft()
        if length < len(segment):
            request.sock.segments.appendleft(segment[length:])
        return 0

    # -- the refill queue -----------------------------------------------------

    def _take_refill(self, most: int) -> None:
        rq = self._rq
        while most and rq is not None and rq["head"][0] != rq["tail"][0]:
            off = int(rq["rqes"][rq["head"][0] & self._mask].off)
            rq["head"][0] = (rq["head"][0] + 1) & 0xFFFFFFFF
            most -= 1
            niov = (off & OFFSET_MASK) // _PAGE
            if off >> AREA_SHIFT or niov >= self.niovs:
                self.breaches.append(f"refill entry {off:#x} names no buffer")
            elif not self.user_refs[niov]:
                self.breaches.append(f"niov {niov} was given back twice")
            else:
                self.user_refs[niov] -= 1
                self.free.append(niov)

    # -- the shim's calls -------------------------------------------------------

    def ring_turn(
        self, _raw: Any, _timeout: int, _gather_nr: int, _gather_us: int, columns: Any
    ) -> int:
        self._run()
        columns.n_data = columns.n_runs = columns.n_other = columns.bytes = 0
        columns.run_start[0] = 0
        columns.fresh = DRAINED
        while True:
            while self._cq and max(columns.n_data, columns.n_other) < columns.capacity:
                self._deliver(columns, *self._cq.popleft())
            if not self._overflow or self._cq:
                break
            self._flush_overflow()
        columns.overflow = bool(self._overflow)
        columns.now_ns = time.monotonic_ns()
        return int(columns.n_data + columns.n_other)

    @staticmethod
    def _deliver(c: Any, token: int, res: int, flags: int, off: int) -> None:
        if not (flags & CqeFlag.MORE and res > 0 and token >> 63):
            i = c.n_other
            c.other_token[i], c.other_res[i], c.other_flags[i] = token, res, flags
            c.n_other = i + 1
            return
        i = c.n_data
        c.token[i], c.off[i], c.len[i] = token, off, res
        c.n_data = i + 1
        c.bytes += res
        if not c.n_runs or c.run_token[c.n_runs - 1] != token:
            c.run_token[c.n_runs], c.run_start[c.n_runs], c.run_bytes[c.n_runs] = token, i, 0
            c.n_runs += 1
        c.run_bytes[c.n_runs - 1] += res
        c.run_start[c.n_runs] = i + 1

    def register_ifq(self, _raw: Any, reg: Any) -> int:
        if not reg.flags & RegisterFlag.NODEV:
            return -errno.EOPNOTSUPP
        area = ffi.cast("struct pz_area_reg *", reg.area_ptr)
        region = ffi.cast("struct pz_region_desc *", reg.region_ptr)
        reg.offsets.head, reg.offsets.tail, reg.offsets.rqes = 0, 4, 64
        reg.zcrx_id, reg.rx_buf_len = 0, _PAGE
        area.rq_area_token = 0
        self._area = int(area.addr)
        self.niovs = int(area.len) // _PAGE
        self.user_refs = [0] * self.niovs
        self.free = list(range(self.niovs))
        self._mask = reg.rq_entries - 1
        base = int(region.user_addr)
        self._rq = {
            "head": ffi.cast("uint32_t *", base),
            "tail": ffi.cast("uint32_t *", base + 4),
            "rqes": ffi.cast("struct pz_rqe *", base + 64),
        }
        return 0

    def zcrx_ctrl(self, _raw: Any, ctrl: Any) -> int:
        if ctrl.op != CtrlOp.FLUSH_RQ:
            return -errno.EOPNOTSUPP
        self.flushes += 1
        self._take_refill(self._mask + 1)
        return 0

    def prep_recv_zc(self, _raw: Any, fd: int, _zcrx_id: int, length: int, token: int) -> int:
        request = _Receive(token, self._socket(fd), length)
        self._prepared.append(lambda: self._armed.append(request))
        return 0

    def ring_submit(self, _raw: Any) -> int:
        self._arrived()
        return 0

    def ring_signals(self, _raw: Any, eventfd: int) -> int:
        self._signal = eventfd
        return 0

    def prep_cancel(self, _raw: Any, target: int, anything: int, token: int) -> int:
        def cancel() -> None:
            hits = [r for r in self._armed if anything or r.token == target]
            for request in hits:
                request.cancelled = True
            self._post_final(token, len(hits) or -errno.ENOENT)

        self._prepared.append(cancel)
        return 0

    def rcvbuf_get(self, fd: int, rcvbuf: Any) -> int:
        rcvbuf.bytes = self._socket(fd).rcvbuf_bytes
        return 0

    def rcvbuf_narrow(self, fd: int, size_bytes: int) -> int:
        self._socket(fd).rcvbuf_bytes = size_bytes
        return 0

    def rcvbuf_restore(self, fd: int, rcvbuf: Any) -> int:
        return self.rcvbuf_narrow(fd, rcvbuf.bytes)

    def unread(self, fd: int) -> int:
        return self._socket(fd).unread_after_end


class _Lib:
    """The shim as the modules see it: the model's calls, and the real ones for memory."""

    def __init__(self, kernel: ModelKernel) -> None:
        self._zero = ffi.new("uint32_t *")
        self.pz_ring_turn = kernel.ring_turn
        self.pz_register_ifq = kernel.register_ifq
        self.pz_zcrx_ctrl = kernel.zcrx_ctrl
        self.pz_prep_recv_zc = kernel.prep_recv_zc
        self.pz_prep_cancel = kernel.prep_cancel
        self.pz_ring_submit = kernel.ring_submit
        self.pz_ring_signals = kernel.ring_signals
        self.pz_unread = kernel.unread
        self.pz_rcvbuf_get = kernel.rcvbuf_get
        self.pz_rcvbuf_narrow = kernel.rcvbuf_narrow
        self.pz_rcvbuf_restore = kernel.rcvbuf_restore

    def pz_ring_init(self, *_args: Any) -> int:
        return 0

    def pz_register(self, *_args: Any) -> int:
        return -errno.EINVAL

    def pz_ring_exit(self, _raw: Any) -> None:
        return None

    def pz_tcp_ready(self, _fd: int) -> int:
        return 0

    def pz_ring_cq(self, _raw: Any, cq: Any) -> None:
        cq.entries = 4096
        cq.head = cq.tail = int(ffi.cast("uintptr_t", self._zero))

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)

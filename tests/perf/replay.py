"""Ring contents played again, with no kernel behind them.

Unlike ``pyzcrx.testing.ModelKernel``, which stands in for the shim, this writes the
rings' memory as the kernel does, and everything else is what users run: the shim's drain,
the loop, the refill queue. That is what a cost can be measured on::

    with Replay(per_turn=256, turns=16) as replay:
        replay.fill()                       # the completions of so many turns, then Limit
        for event in replay.ring.events():
            ...
        replay.take_refill()                # what the page pool does

Filling and taking happen between turns, never within one.

Kernel: ``io_uring/zcrx.c:io_zcrx_queue_cqe()``, ``zcrx_parse_rq()`` (7.3).
"""

from __future__ import annotations

import errno
import io
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from pyzcrx._common.checked import integer
from pyzcrx._common.leaving import leave
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE
from pyzcrx._queue.area import Area
from pyzcrx._receive.reading import Reading
from pyzcrx._receive.request import Request
from pyzcrx.errors import BadArgument, CorruptRing
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring
from pyzcrx.stream import Stream
from pyzcrx.testing.stand_in import StandIn
from pyzcrx.uapi import CQ_WORDS, RQ_WORDS, CqeFlag, RegisterFlag
from tests.perf import bare

MOST = 16384
"""Completions that a fill may have: so many that nothing overflows, is flushed or is pressure."""
MOST_PER_TURN = 4096
_CQ_ENTRIES = 2 * MOST
_RQ_ENTRIES = 2 * MOST
_MODULO = 1 << 32


class Replay:
    """Requests on one ifq, whose completions are written by :meth:`fill`.

    per_turn: how many completions a turn brings. turns: how many turns a fill takes.
    lengths: bytes of the buffers, over and over; a page at most each. connections: how many
    requests there are, at most per_turn; each buffer is of the next one, over and over. The
    last completions of a fill, one for each request, are no data, but say that its limit is
    reached.

    Raises BadArgument.
    """

    def __init__(
        self,
        *,
        per_turn: int = 256,
        turns: int = 1,
        lengths: Sequence[int] = (PAGE,),
        connections: int = 1,
    ) -> None:
        per_turn = integer("per_turn", per_turn, 1, MOST_PER_TURN)
        turns = integer("turns", turns, 1, MOST)
        if not 2 <= per_turn * turns <= MOST:
            raise BadArgument(
                f"{turns} turns of {per_turn} are not 2 to {MOST} completions, "
                f"{MOST_PER_TURN} a turn"
            )
        self._connections = integer("connections", connections, 1, per_turn)
        if per_turn * turns < 2 * connections:
            raise BadArgument(f"{connections} connections have no buffer each")
        lengths = [integer("length", length, 1, PAGE) for length in lengths]
        if not lengths:
            raise BadArgument("there are no lengths")
        self.per_turn = per_turn
        self.buffers = buffers = per_turn * turns - connections
        """Of a fill."""
        self.lengths = [lengths[i % len(lengths)] for i in range(buffers)]
        """Of the completions of a fill."""
        self.size_bytes = sum(self.lengths)
        """Bytes of a fill."""
        self.offs = [i * PAGE for i in range(buffers)]
        """Where those lie. Pools hand buffers out in no order that a CPU could guess."""
        random.Random(buffers).shuffle(self.offs)

    def __enter__(self) -> Self:
        self.area = Area.anonymous(4 * MOST * PAGE)
        self._sock = socket.socket()  # never read from: the ring has no kernel
        set_up = StandIn(
            {
                "pz_ring_init": self._ring_init,
                "pz_register_ifq": self._register_ifq,
                "pz_tcp_ready": lambda _fd, _drop: 0,
            }
        )
        set_up.put()
        try:
            self.ring = Ring(cq_entries=_CQ_ENTRIES, debug=False)
            self.ifq: Ifq = self.ring.register_ifq(self.area, rq_entries=_RQ_ENTRIES)
            self.requests: list[Request] = [
                self.ifq.receive(self._sock, limit=self._limit(i)) for i in range(self._connections)
            ]
        finally:
            set_up.take_back()
        # Of all that waits a turn drains no more than there is room for.
        self.ring._core.columns.raw.capacity = self.per_turn
        words: list[int] = []
        for i, (off, length) in enumerate(zip(self.offs, self.lengths, strict=True)):
            token = self.requests[i % self._connections].token
            words += (token, length | CqeFlag.MORE << 32, off, 0)
        for request in self.requests:
            words += (request.token, 0, 0, 0)
        self._recorded = ffi.new("uint64_t[]", words)
        self._in_order = b"".join(struct.pack("=QQ", off, 0) for off in self.offs)
        return self

    @property
    def request(self) -> Request:
        """The first of them."""
        return self.requests[0]

    @contextmanager
    def streams(self) -> Iterator[list[Stream]]:
        """The requests as streams of bytes; a fill has ``size_bytes``. Read all of it, no more."""
        delivery = self.ring._delivery
        streams = []
        for request in self.requests:
            reading = Reading(delivery.inboxes, request, self.area.size_bytes, PAGE)
            reading.chunks.limited = False  # the request is armed, and fill() resumes it
            streams.append(Stream(delivery, reading, self._sock, None))
        try:
            yield streams
            while not all(request.over for request in self.requests):
                delivery.collect(0)  # their last completions
        finally:
            for stream in streams:
                stream._reading.end()
                stream._request._inbox = None
                io.RawIOBase.close(stream)
            delivery.inboxes.ever.clear()

    def _limit(self, i: int) -> int:
        """Bytes that request *i* gets in a fill."""
        return sum(self.lengths[i :: self._connections])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave(error, self.close)

    def close(self) -> None:
        """Close ring and area. Idempotent."""
        self.ring.close()
        self.area.close()
        self._sock.close()

    # -- the kernel's side ------------------------------------------------------

    def fill(self) -> None:
        """Post the completions, and the last ones, which say that the limit is reached."""
        for i, request in enumerate(self.requests):
            if request.over:
                request.resume(self._limit(i))
        self._post(self._recorded, self.buffers + self._connections)

    def bring(self, requests: Sequence[Request]) -> None:
        """Post one buffer for each of *requests*, which have no limit, and that its peer ended."""
        words: list[int] = []
        for request, off in zip(requests, self.offs[: len(requests)], strict=True):
            words += (request.token, PAGE | CqeFlag.MORE << 32, off, 0)
            words += (request.token, 0, 0, 0)
        self._post(ffi.new("uint64_t[]", words), 2 * len(requests))

    def _post(self, words: Any, entries: int) -> None:
        tail, left = int(self._cq.tail[0]), entries
        while left:
            slot = tail % _CQ_ENTRIES
            n = min(left, _CQ_ENTRIES - slot)
            ffi.memmove(
                self._cq.entries + slot * CQ_WORDS,
                words + (entries - left) * CQ_WORDS,
                n * CQ_WORDS * 8,
            )
            tail, left = (tail + n) % _MODULO, left - n
        self._cq.tail[0] = tail

    def take_refill(self) -> list[int]:
        """Take what was given back, as the page pool does; gives the offsets.

        Raises CorruptRing where those are not all of a fill, each once.
        """
        self.ifq._core.give_back()
        head, tail = int(self._rq.head[0]), int(self._rq.tail[0])
        self._rq.head[0] = tail
        n = (tail - head) % _MODULO
        if n == self.buffers and self._returned(head, n) == self._in_order:
            return self.offs
        words = memoryview(self._returned(head, n)).cast("Q")
        offs = words[::RQ_WORDS].tolist()
        if sorted(offs) != sorted(self.offs):
            raise CorruptRing(f"{n} buffers came back, and not each of {self.buffers} once")
        return offs

    def _returned(self, head: int, n: int) -> bytes:
        """So many entries of the refill queue. Quick, as it leaves caches to what is measured."""
        at = head % _RQ_ENTRIES
        first = min(n, _RQ_ENTRIES - at)
        return b"".join(
            bytes(ffi.buffer(self._rq.entries + start * RQ_WORDS, count * RQ_WORDS * 8))
            for start, count in ((at, first), (0, n - first))
        )

    # -- set-up, called in the place of the shim ---------------------------------

    def _ring_init(
        self, raw: Any, sq: int, cq: int, _flags: int, memory: int, size_bytes: int
    ) -> int:
        result = bare.lay_out(raw, sq, cq, memory, size_bytes)
        found = ffi.new("struct pz_cq *")
        lib.pz_ring_cq(raw, found)
        self._cq = _Shared(found.cqes, found.head, found.tail)
        return result

    def _register_ifq(self, _raw: Any, reg: Any) -> int:
        if not reg.flags & RegisterFlag.NODEV:
            return -errno.EOPNOTSUPP
        base = int(ffi.cast("struct pz_region_desc *", reg.region_ptr).user_addr)
        reg.offsets.head, reg.offsets.tail, reg.offsets.rqes = 0, 4, 64
        reg.zcrx_id, reg.rx_buf_len = 0, PAGE
        self._rq = _Shared(base + 64, base, base + 4)
        return 0


class _Shared:
    """A shared ring: its entries as words, and its indices."""

    def __init__(self, entries: int, head: int, tail: int) -> None:
        self.entries = ffi.cast("uint64_t *", entries)
        self.head = ffi.cast("uint32_t *", head)
        self.tail = ffi.cast("uint32_t *", tail)

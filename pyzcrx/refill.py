"""The refill queue (rq): buffers on their way back to the kernel.

We write entries and the tail, the kernel reads them and writes the head. It
looks only when its page pool needs buffers, or on ZCRX_CTRL_FLUSH_RQ; until then
a full queue takes nothing and what found no room must be kept and pushed later.

Knows no ring and no kernel: any memory will do, which is how it is tested.
Kernel: ``io_uring/zcrx.c:io_zcrx_ring_refill()``, ``zcrx_flush_rq()`` (7.3).
"""

from __future__ import annotations

from pyzcrx._ffi import ffi, lib
from pyzcrx.memory import Mapping, page_align
from pyzcrx.uapi import RQ_WORDS

HEADER_BYTES = 4096
"""Room for the kernel's header before the entries; it needs a cache line or two."""

RQE_BYTES = RQ_WORDS * 8


def region_bytes(entries: int, trailer_bytes: int = 0) -> int:
    """Bytes of shared memory for that many entries, in whole pages."""
    return page_align(HEADER_BYTES + entries * RQE_BYTES + trailer_bytes)


class RefillQueue:
    """One refill queue in *mapping*; *head*, *tail* and *rqes* are byte offsets in it.

    *entries* is a power of two, at most 32768. Not thread-safe: one producer.
    """

    def __init__(self, mapping: Mapping, entries: int, *, head: int, tail: int, rqes: int) -> None:
        self.mapping = mapping
        self.entries = entries
        base = mapping.address
        self._rq = ffi.new(
            "struct pz_rq *",
            {
                "head": ffi.cast("uint32_t *", base + head),
                "tail": ffi.cast("uint32_t *", base + tail),
                "rqes": ffi.cast("struct pz_rqe *", base + rqes),
                "entries": entries,
            },
        )
        self.address = int(ffi.cast("uintptr_t", self._rq))
        """Of its struct pz_rq, for the Account whose returns go here."""
        self._rqes = base + rqes

    @property
    def head(self) -> int:
        """How many entries the kernel has taken, modulo 2**32."""
        return int(self._rq.head[0])

    @property
    def tail(self) -> int:
        """How many entries were pushed, modulo 2**32."""
        return int(self._rq.tail[0])

    @property
    def pending(self) -> int:
        """Entries that the kernel has not taken yet."""
        return int(lib.pz_rq_pending(self._rq))

    @property
    def view(self) -> memoryview:
        """The entries, read-only, as :mod:`pyzcrx.uapi` describes; readable after close."""
        return self.mapping.words(self._rqes, self.entries, RQ_WORDS)

    def push(self, address: int, count: int) -> int:
        """Push *count* offsets (uint64) from *address*; gives how many found room."""
        return int(lib.pz_rq_push(self._rq, ffi.cast("uint64_t *", address), count))

"""The refill queue (rq): buffers on their way back to the kernel.

We write entries and the tail, the kernel reads them and writes the head. It
looks only when its page pool needs buffers, or on ZCRX_CTRL_FLUSH_RQ; until then
a full queue takes nothing and what found no room must be kept and pushed later.

Knows no ring and no kernel: any memory will do, which is how it is tested.
Kernel: ``io_uring/zcrx.c:io_zcrx_ring_refill()``, ``zcrx_flush_rq()`` (7.3).
"""

from __future__ import annotations

from pyzcrx._common.checked import integer
from pyzcrx._kernel.memory import Mapping, page_align
from pyzcrx._lease import RefillRing
from pyzcrx.errors import BadArgument
from pyzcrx.uapi import RQ_MAX_ENTRIES, RQ_WORDS

HEADER_BYTES = 4096
"""Room for the kernel's header before the entries; it needs a cache line or two."""

RQE_BYTES = RQ_WORDS * 8


def region_bytes(entries: int, trailer_bytes: int = 0) -> int:
    """Bytes of shared memory for that many entries, in whole pages."""
    return page_align(HEADER_BYTES + entries * RQE_BYTES + trailer_bytes)


class RefillQueue:
    """One refill queue in *mapping*; *head*, *tail* and *rqes* are byte offsets in it.

    *entries* is a power of two, at most 32768. Not thread-safe: one producer.

    Raises BadArgument where that is not in *mapping*.
    """

    def __init__(self, mapping: Mapping, entries: int, *, head: int, tail: int, rqes: int) -> None:
        self._mapping = mapping
        self.entries = entries
        """How many entries it has room for."""
        if not isinstance(mapping, Mapping):
            raise BadArgument(f"mapping must be a Mapping, not {type(mapping).__name__}")
        entries = integer("entries", entries, 1, RQ_MAX_ENTRIES)
        head, tail, rqes = (
            integer(name, at, 0, mapping.size_bytes)
            for name, at in (("head", head), ("tail", tail), ("rqes", rqes))
        )
        try:
            self._shared = RefillRing(mapping.span, entries, head, tail, rqes)
            """For the Account whose returns go here."""
        except ValueError as error:
            raise BadArgument(f"no refill queue: {error}") from None
        self._rqes = mapping.address + rqes

    @property
    def head(self) -> int:
        """How many entries the kernel has taken, modulo 2**32."""
        return self._shared.head

    @property
    def tail(self) -> int:
        """How many entries were pushed, modulo 2**32."""
        return self._shared.tail

    @property
    def pending(self) -> int:
        """Entries that the kernel has not taken yet."""
        return self._shared.pending

    @property
    def view(self) -> memoryview:
        """The entries, read-only, as :mod:`pyzcrx.uapi` describes; readable after close."""
        return self._mapping.words(self._rqes, self.entries, RQ_WORDS)

    def _push(self, offs: memoryview) -> int:
        """Push offsets, uint64 each; gives how many found room."""
        return self._shared.push(offs)

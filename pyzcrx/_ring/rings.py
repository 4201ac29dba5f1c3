"""The two rings of an io_uring in memory of ours, and the completion queue to look at."""

from __future__ import annotations

import os
import warnings
import weakref
from typing import Any

from pyzcrx._common.checked import integer
from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx._kernel.memory import Mapping
from pyzcrx.uapi import CQ_WORDS, Setup

MAX_ENTRIES = 32768
"""The largest SQ; a CQ may have twice that (io_uring/io_uring.h, IORING_MAX_ENTRIES)."""

_FLAGS = (
    Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.TASKRUN_FLAG | Setup.CQE32 | Setup.SUBMIT_ALL
)


def checked_entries(sq_entries: int, cq_entries: int) -> tuple[int, int]:
    """Sizes that the two rings can have. Raises BadArgument."""
    sq_entries = integer("sq_entries", sq_entries, 1, MAX_ENTRIES)
    cq_entries = integer("cq_entries", cq_entries, 1, 2 * MAX_ENTRIES)
    return min(sq_entries, cq_entries), cq_entries


def set_up(raw: Any, sq_entries: int, cq_entries: int) -> Mapping:
    """Make the io_uring of *raw*, a struct pz_ring. Gives the memory that its rings lie in."""
    size_bytes = lib.pz_ring_bytes(sq_entries, cq_entries)
    mapping = Mapping.anonymous(size_bytes)
    result = lib.pz_ring_init(raw, sq_entries, cq_entries, _FLAGS, mapping.address, size_bytes)
    check(result, "ring set-up")
    return mapping


def _dropped(ring_fd: int) -> None:
    warnings.warn("a Ring was dropped without close()", ResourceWarning, stacklevel=2)
    os.close(ring_fd)


def close_if_dropped(owner: object, ring_fd: int) -> weakref.finalize[[int], Any]:
    """Warn where *owner* goes without close(), and free what would keep an rx queue bound."""
    finalizer = weakref.finalize(owner, _dropped, ring_fd)
    finalizer.atexit = False
    return finalizer


class CompletionQueue:
    """The CQ of a ring whose memory is *mapping*."""

    def __init__(self, raw: Any, mapping: Mapping) -> None:
        self._cq = ffi.new("struct pz_cq *")
        lib.pz_ring_cq(raw, self._cq)
        self._mapping = mapping
        self.entries = int(self._cq.entries)

    @property
    def view(self) -> memoryview:
        """The CQEs, read-only, as :mod:`pyzcrx.uapi` describes."""
        return self._mapping.words(int(self._cq.cqes), self.entries, CQ_WORDS)

    @property
    def head(self) -> int:
        """How many CQEs were consumed, modulo 2**32."""
        return self._index(self._cq.head)

    @property
    def tail(self) -> int:
        """How many CQEs the kernel posted, modulo 2**32."""
        return self._index(self._cq.tail)

    def _index(self, address: int) -> int:
        at = address - self._mapping.address
        return self._mapping.view[at : at + 4].cast("I")[0]

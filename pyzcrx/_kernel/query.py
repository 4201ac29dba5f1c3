"""IORING_REGISTER_QUERY: what the kernel says of itself.

Kernels before 6.19 or so do not answer for zcrx, and the answer is given on kernels
built without zcrx too (``io_uring/query.c``): never the only evidence.
"""

from __future__ import annotations

from typing import Any

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx.uapi import Query, RegisterOp


def query(ring_fd: int, op: Query, ctype: str) -> Any | None:
    """The kernel's answer as a structure *ctype*, or None where it gives none."""
    answer = ffi.new(f"{ctype} *")
    hdr = ffi.new(
        "struct pz_query_hdr *",
        {
            "query_data": int(ffi.cast("uintptr_t", answer)),
            "query_op": op,
            "size": ffi.sizeof(answer[0]),
        },
    )
    result = lib.pz_register(ring_fd, RegisterOp.QUERY, int(ffi.cast("uintptr_t", hdr)), 0)
    return answer if result >= 0 and hdr.result >= 0 else None


def query_notices(ring_fd: int) -> int:
    """A bit for each kind of notification (``1 << EventType``) that this kernel sends."""
    found = query(ring_fd, Query.ZCRX_EVENT, "struct pz_query_zcrx_event")
    return 0 if found is None else int(found.event_flags)


def query_zcrx(ring_fd: int) -> Any | None:
    """``struct io_uring_query_zcrx``"""
    return query(ring_fd, Query.ZCRX, "struct pz_query_zcrx")

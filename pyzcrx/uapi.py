"""The kernel's zcrx interface as Python sees it (Linux 7.3).

Mirrors ``include/uapi/linux/io_uring/zcrx.h`` and ``query.h``. A test compares
each value, size and offset with the C side, and the C side is held against
liburing's headers at build time.

The two shared rings, as :attr:`Ring.cq_view` and :attr:`Ifq.rq_view` show them,
are arrays of unsigned 64-bit words in native order:

``cq_view``
    shape ``(entries, 4)``: user_data; res in the low 32 bits (signed) and flags
    in the high 32; off of ``io_uring_zcrx_cqe``; padding.
``rq_view``
    shape ``(entries, 2)``: off of ``io_uring_zcrx_rqe``; len in the low 32 bits
    (the kernel ignores it) and padding.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

AREA_SHIFT = 48
"""Bits of an offset below the area token (IORING_ZCRX_AREA_SHIFT)."""

OFFSET_MASK = (1 << AREA_SHIFT) - 1

RQ_MAX_ENTRIES = 32768
"""The largest refill queue (io_uring/zcrx.c:IO_RQ_MAX_ENTRIES)."""

OP_RECV_ZC = 58
"""IORING_OP_RECV_ZC"""

CQ_WORDS = 4
RQ_WORDS = 2


class RegisterOp(IntEnum):
    """io_uring_register() opcodes."""

    NAPI = 27
    UNREGISTER_NAPI = 28
    ZCRX_IFQ = 32
    QUERY = 35
    ZCRX_CTRL = 36


class Setup(IntFlag):
    """IORING_SETUP_*"""

    CQSIZE = 1 << 3
    CLAMP = 1 << 4
    SUBMIT_ALL = 1 << 7
    TASKRUN_FLAG = 1 << 9
    CQE32 = 1 << 11
    SINGLE_ISSUER = 1 << 12
    DEFER_TASKRUN = 1 << 13


class SqFlag(IntFlag):
    """IORING_SQ_*, the kernel's word to the ring's owner"""

    CQ_OVERFLOW = 1 << 1
    TASKRUN = 1 << 2


class CqeFlag(IntFlag):
    """IORING_CQE_F_*"""

    MORE = 1 << 1
    NOTIF = 1 << 3


class RegisterFlag(IntFlag):
    """enum zcrx_reg_flags"""

    IMPORT = 1
    NODEV = 2


class AreaFlag(IntFlag):
    """enum io_uring_zcrx_area_flags"""

    DMABUF = 1


class Feature(IntFlag):
    """enum zcrx_features"""

    RX_PAGE_SIZE = 1
    EVENT = 2


class CtrlOp(IntEnum):
    """enum zcrx_ctrl_op"""

    FLUSH_RQ = 0
    EXPORT = 1
    ARM_EVENT = 2
    ADD_AREA = 3


class EventType(IntEnum):
    """enum zcrx_event_type"""

    ALLOC_FAIL = 0
    COPY = 1


class Query(IntEnum):
    """IO_URING_QUERY_*"""

    OPCODES = 0
    ZCRX = 1
    SCQ = 2
    ZCRX_EVENT = 3


class NapiOp(IntEnum):
    """enum io_uring_napi_op"""

    REGISTER = 0
    STATIC_ADD_ID = 1
    STATIC_DEL_ID = 2


class NapiTracking(IntEnum):
    """enum io_uring_napi_tracking_strategy"""

    DYNAMIC = 0
    STATIC = 1
    INACTIVE = 255


LAYOUT: dict[str, tuple[int, dict[str, int]]] = {
    "rqe": (16, {"off": 0, "len": 8}),
    "zcrx_cqe": (16, {"off": 0}),
    "offsets": (32, {"head": 0, "tail": 4, "rqes": 8}),
    "area_reg": (
        48,
        {"addr": 0, "len": 8, "rq_area_token": 16, "flags": 24, "dmabuf_fd": 28},
    ),
    "region_desc": (64, {"user_addr": 0, "size": 8, "flags": 16, "id": 20, "mmap_offset": 24}),
    "event_desc": (96, {"user_data": 0, "type_mask": 8, "flags": 12, "stats_offset": 16}),
    "stats": (16, {"copy_count": 0, "copy_bytes": 8}),
    "ifq_reg": (
        96,
        {
            "if_idx": 0,
            "if_rxq": 4,
            "rq_entries": 8,
            "flags": 12,
            "area_ptr": 16,
            "region_ptr": 24,
            "offsets": 32,
            "zcrx_id": 64,
            "rx_buf_len": 68,
            "event_desc": 72,
        },
    ),
    "ctrl": (72, {"zcrx_id": 0, "op": 4, "payload": 24}),
    "napi": (16, {"busy_poll_us": 0, "prefer_busy_poll": 4, "opcode": 5, "op_param": 8}),
    "query_hdr": (40, {"next_entry": 0, "query_data": 8, "query_op": 16, "size": 20, "result": 24}),
}
"""Sizes and field offsets in bytes of the structures above."""

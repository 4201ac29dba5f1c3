"""IORING_REGISTER_ZCRX_IFQ and ZCRX_CTRL_ADD_AREA: arguments checked, structures filled.

Kernel: ``io_uring/zcrx.c:io_register_zcrx()`` (6.15), ``zcrx_ctrl_add_area()`` (7.3).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Literal

from pyzcrx._ffi import check, ffi, lib
from pyzcrx.area import Area
from pyzcrx.errors import BadArgument
from pyzcrx.interface import Interface
from pyzcrx.memory import PAGE, Mapping
from pyzcrx.query import query_notices, query_zcrx
from pyzcrx.refill import HEADER_BYTES, RQE_BYTES, RefillQueue, region_bytes
from pyzcrx.ring import RingCore
from pyzcrx.uapi import RQ_MAX_ENTRIES, AreaFlag, CtrlOp, EventType, Feature, RegisterFlag

RqMemory = Literal["user", "kernel"]

_STATS_BYTES = 64
_NOTICES = 1 << EventType.ALLOC_FAIL | 1 << EventType.COPY


@dataclass(frozen=True)
class Wanted:
    """What a caller of :meth:`pyzcrx.Ring.register_ifq` asks for; checked when made."""

    interface: Interface | None = None
    rx_queue: int | None = None
    rq_entries: int = 4096
    rq_memory: RqMemory = "user"
    rx_buf_len: int = 0

    def __post_init__(self) -> None:
        n, length = self.rq_entries, self.rx_buf_len
        if not 1 <= n <= RQ_MAX_ENTRIES:
            raise BadArgument(f"rq_entries {n} is not between 1 and {RQ_MAX_ENTRIES}")
        if self.rq_memory not in ("user", "kernel"):
            raise BadArgument(f"rq_memory must be 'user' or 'kernel', not {self.rq_memory!r}")
        if length and (length < PAGE or length & (length - 1)):
            raise BadArgument(f"rx_buf_len {length} is not a power of two of at least a page")
        if (self.interface is None) != (self.rx_queue is None):
            raise BadArgument("give both interface and rx_queue, or neither for NODEV")
        if self.rx_queue is not None and not 0 <= self.rx_queue < 1 << 31:
            raise BadArgument(f"rx_queue {self.rx_queue} is out of range")

    @property
    def nodev(self) -> bool:
        return self.interface is None

    @property
    def if_idx(self) -> int:
        """0 for NODEV."""
        return 0 if self.interface is None else self.interface.index


@dataclass(frozen=True)
class Registration:
    """What the kernel made of it."""

    zcrx_id: int
    rx_buf_len: int
    rq: RefillQueue
    rq_of_kernel: bool
    """Whether the refill queue's pages hold the ring's file until they are detached."""
    notice_token: int
    """What the kernel's notices carry."""
    stats: Any | None
    """``struct zcrx_stats`` in the refill queue's region, where the kernel keeps it."""


def _area_reg(area: Area) -> Any:
    if area.token is not None:
        raise BadArgument("the area serves another ifq; make one for each")
    if area.dmabuf:
        return ffi.new(
            "struct pz_area_reg *",
            {"len": area.size_bytes, "flags": AreaFlag.DMABUF, "dmabuf_fd": area.fd},
        )
    return ffi.new("struct pz_area_reg *", {"addr": area.address, "len": area.size_bytes})


def _pointer(structure: Any) -> int:
    return int(ffi.cast("uintptr_t", structure))


def register(ring: RingCore, area: Area, wanted: Wanted, notice_token: int) -> Registration:
    """Register, and set the area's token; nothing stays behind after an error.

    *notice_token* is for the kernel's notices, where there will be any.
    """
    area_reg = _area_reg(area)
    if area.dmabuf and wanted.nodev:
        raise BadArgument("a dmabuf area needs a card: the kernel cannot copy into it")
    rq_entries = 1 << (wanted.rq_entries - 1).bit_length()
    size_bytes = region_bytes(rq_entries, _STATS_BYTES)
    region = ffi.new("struct pz_region_desc *", {"size": size_bytes})
    found = query_zcrx(ring.fileno())
    # Behind the entries, wherever the kernel lets those begin.
    stats_offset = HEADER_BYTES + rq_entries * RQE_BYTES
    event_desc = None
    if found is not None and found.features & Feature.EVENT:
        event_desc = ffi.new(
            "struct pz_event_desc *",
            {
                "user_data": notice_token,
                "type_mask": 0 if wanted.nodev else _NOTICES & query_notices(ring.fileno()),
                "flags": lib.PZ_EVENT_DESC_FLAG_STATS,
                "stats_offset": stats_offset,
            },
        )
    mapping = None
    if wanted.rq_memory == "user":
        mapping = Mapping.anonymous(size_bytes)
        region.user_addr = mapping.address
        region.flags = lib.PZ_MEM_REGION_TYPE_USER
    reg = ffi.new(
        "struct pz_ifq_reg *",
        {
            "if_idx": wanted.if_idx,
            "if_rxq": wanted.rx_queue or 0,
            "rq_entries": rq_entries,
            "flags": RegisterFlag.NODEV if wanted.nodev else 0,
            "area_ptr": _pointer(area_reg),
            "region_ptr": _pointer(region),
            "rx_buf_len": wanted.rx_buf_len,
            "event_desc": _pointer(event_desc) if event_desc is not None else 0,
        },
    )
    result = lib.pz_register_ifq(ring.raw, reg)
    if result < 0 and mapping is not None:
        # Not left to the garbage collector: a kept exception would keep it too.
        mapping.close()
    if wanted.nodev:
        check(result, "register ifq NODEV")
    else:
        check(result, "register ifq", f"{wanted.interface}, queue {wanted.rx_queue}")
    if mapping is None:
        mapping = Mapping.of_file(ring.fileno(), region.mmap_offset, size_bytes)
    area.token = int(area_reg.rq_area_token)
    return Registration(
        zcrx_id=int(reg.zcrx_id),
        rx_buf_len=int(reg.rx_buf_len) or wanted.rx_buf_len or PAGE,
        rq=RefillQueue(
            mapping,
            int(reg.rq_entries),
            head=reg.offsets.head,
            tail=reg.offsets.tail,
            rqes=reg.offsets.rqes,
        ),
        rq_of_kernel=wanted.rq_memory == "kernel",
        notice_token=notice_token,
        stats=None
        if event_desc is None
        else ffi.cast("struct pz_stats *", mapping.address + stats_offset),
    )


def interface_gone(ring: RingCore, zcrx_id: int) -> bool:
    """Whether the card of a bound ifq was taken away.

    Asked by an ADD_AREA that cannot succeed: the kernel looks for the card (EFAULT)
    before it looks at the area (EINVAL). Before Linux 7.3 there is no telling: no.
    """
    impossible = ffi.new("struct pz_area_reg *", {"flags": 0xFFFFFFFF})
    ctrl = ffi.new("struct pz_ctrl *", {"zcrx_id": zcrx_id, "op": CtrlOp.ADD_AREA})
    ctrl.payload[0] = _pointer(impossible)
    return int(lib.pz_zcrx_ctrl(ring.raw, ctrl)) == -errno.EFAULT


def add_area(ring: RingCore, zcrx_id: int, area: Area) -> None:
    """One area more, of the kind and buffer size of the first; sets its token."""
    area_reg = _area_reg(area)
    ctrl = ffi.new("struct pz_ctrl *", {"zcrx_id": zcrx_id, "op": CtrlOp.ADD_AREA})
    ctrl.payload[0] = _pointer(area_reg)
    check(lib.pz_zcrx_ctrl(ring.raw, ctrl), "add area")
    area.token = int(area_reg.rq_area_token)

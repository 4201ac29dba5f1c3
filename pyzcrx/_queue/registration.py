"""IORING_REGISTER_ZCRX_IFQ and ZCRX_CTRL_ADD_AREA: arguments checked, structures filled.

Kernel: ``io_uring/zcrx.c:io_register_zcrx()`` (6.15), ``zcrx_ctrl_add_area()`` (7.3).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Literal

from pyzcrx._common.checked import integer, optional
from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx._kernel.interface import Interface
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._kernel.query import query_notices, query_zcrx
from pyzcrx._queue.area import Area
from pyzcrx._queue.refill import HEADER_BYTES, RQE_BYTES, RefillQueue, region_bytes
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import BadArgument
from pyzcrx.uapi import RQ_MAX_ENTRIES, AreaFlag, CtrlOp, EventType, Feature, RegisterFlag

RqMemory = Literal["user", "kernel"]

_STATS_BYTES = 64
LARGEST_BUF_LEN = 1 << 31
MOST_QUEUE = (1 << 31) - 1
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
        length = integer("rx_buf_len", self.rx_buf_len, 0, LARGEST_BUF_LEN)
        for name, value in (
            ("rq_entries", integer("rq_entries", self.rq_entries, 1, RQ_MAX_ENTRIES)),
            ("rx_queue", optional("rx_queue", self.rx_queue, 0, MOST_QUEUE)),
            ("rx_buf_len", length),
        ):
            object.__setattr__(self, name, value)
        if self.rq_memory not in ("user", "kernel"):
            raise BadArgument(f"rq_memory must be 'user' or 'kernel', not {self.rq_memory!r}")
        if length and (length < PAGE or length & (length - 1)):
            raise BadArgument(f"rx_buf_len {length} is not a power of two of at least a page")
        if (self.interface is None) != (self.rx_queue is None):
            raise BadArgument("give both interface and rx_queue, or neither for NODEV")

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
    """What the kernel's notifications carry."""
    stats: Any | None
    """``struct zcrx_stats`` in the refill queue's region, where the kernel keeps it."""


def _area_reg(area: Area) -> Any:
    if area.dmabuf:
        return ffi.new(
            "struct pz_area_reg *",
            {"len": area.size_bytes, "flags": AreaFlag.DMABUF, "dmabuf_fd": area._own_fd},
        )
    return ffi.new("struct pz_area_reg *", {"addr": area._address, "len": area.size_bytes})


def _pointer(structure: Any) -> int:
    return int(ffi.cast("uintptr_t", structure))


def register(ring: RingCore, area: Area, wanted: Wanted, notice_token: int) -> Registration:
    """Register, and set the area's token; nothing stays behind after an error.

    *notice_token* is for the kernel's notifications, where there will be any.
    """
    area_reg = _area_reg(area)
    if area.dmabuf and wanted.nodev:
        raise BadArgument("a dmabuf area needs a NIC: the kernel cannot copy into it")
    rq_entries = 1 << (wanted.rq_entries - 1).bit_length()
    size_bytes = region_bytes(rq_entries, _STATS_BYTES)
    region = ffi.new("struct pz_region_desc *", {"size": size_bytes})
    found = query_zcrx(ring.ring_fd)
    # Behind the entries, wherever the kernel lets those begin.
    stats_offset = HEADER_BYTES + rq_entries * RQE_BYTES
    event_desc = None
    if found is not None and found.features & Feature.EVENT:
        event_desc = ffi.new(
            "struct pz_event_desc *",
            {
                "user_data": notice_token,
                "type_mask": 0 if wanted.nodev else _NOTICES & query_notices(ring.ring_fd),
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
        mapping = Mapping.of_file(ring.ring_fd, region.mmap_offset, size_bytes)
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
    """Whether the NIC of a bound ifq was taken away.

    Asked by an ADD_AREA that cannot succeed: the kernel looks for the NIC (EFAULT)
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
    result = lib.pz_zcrx_ctrl(ring.raw, ctrl)
    if result == -errno.EFAULT and interface_gone(ring, zcrx_id):
        result = -errno.ENODEV
    check(result, "add area")
    area.token = int(area_reg.rq_area_token)

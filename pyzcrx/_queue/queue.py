"""What the kernel has of an interface queue: its rx queue, areas and refill queue.

Apart from what a ring does with it (:class:`pyzcrx.Ifq`: requests, accounts, pressure), so that
a second ring can use the same queue.

Kernel: ``io_uring/zcrx.c:struct io_zcrx_ifq``; ZCRX_CTRL_FLUSH_RQ by 7.2, ZCRX_CTRL_ADD_AREA
and ZCRX_CTRL_ARM_EVENT by 7.3.
"""

from __future__ import annotations

from contextlib import suppress

from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx._lease import Span
from pyzcrx._queue.area import Area
from pyzcrx._queue.registration import Registration, Wanted, add_area, interface_gone, register
from pyzcrx._ring.columns import TAKEN
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import CorruptRing, DoubleRelease, InvalidRequest, KernelError
from pyzcrx.uapi import AREA_SHIFT, OFFSET_MASK, CtrlOp, EventType


class InterfaceQueue:
    """A registered queue. Owner thread of *ring* only."""

    def __init__(self, ring: RingCore, area: Area, wanted: Wanted) -> None:
        """Register it with *ring*, which unregisters it when it closes.

        Raises what :meth:`pyzcrx.Ring.register_ifq` does; nothing stays behind then.
        """
        self._ring = ring
        self.interface = None if wanted.interface is None else wanted.interface.name
        """The primary name that it had then; None: NODEV."""
        self.ifindex = wanted.if_idx
        """A name may change, the index does not; 0: NODEV."""
        self.rx_queue = wanted.rx_queue
        with area._claimed(ring) as claim:
            self.registered: Registration = register(ring, area, wanted, ring.new_token())
        self.rq = self.registered.rq
        self.areas = [area]
        """In the order of their tokens."""
        # Held to the end, although an area may be closed before.
        self.memories: list[Span] = [area._span]
        """Their memory, in the same order; empty once the ring is closed."""
        self.looks = [claim.look()]
        """Views of it, in the same order, likewise."""
        self._flush_ctrl = ffi.new(
            "struct pz_ctrl *", {"zcrx_id": self.registered.zcrx_id, "op": CtrlOp.FLUSH_RQ}
        )
        self._can_flush = True

    @property
    def nodev(self) -> bool:
        """Whether there is no NIC, so that the kernel copies."""
        return self.interface is None

    @property
    def copied_bytes(self) -> int | None:
        """Bytes that the kernel copied into the areas, of a NIC; None: it does not count them."""
        counted = self.registered.stats
        return None if counted is None else int(counted.copy_bytes)

    # -- areas ----------------------------------------------------------------

    def add_area(self, area: Area) -> None:
        """Give the kernel one area more. Raises what :meth:`pyzcrx.Ifq.add_area` does."""
        with area._claimed(self._ring) as claim:
            add_area(self._ring, self.registered.zcrx_id, area)
        self.areas.append(area)
        self.memories.append(area._span)
        self.looks.append(claim.look())

    def locate(self, off: int, length: int) -> tuple[Span, int]:
        """Where a completion's bytes lie: the area's memory and the byte offset in it.

        Raises CorruptRing where the area has no such place, DoubleRelease where it is
        that of an entry whose buffer was taken, ClosedError, ForkedChild.
        """
        self._ring.check_open()
        at, index = off & OFFSET_MASK, off >> AREA_SHIFT
        if index >= len(self.memories) or at + length > len(self.memories[index]):
            if off == TAKEN:
                raise DoubleRelease("the entry was taken as a Buffer before")
            raise CorruptRing(f"a completion names {length} bytes at {off:#x}, outside the area")
        return self.memories[index], at

    def look(self, off: int, length: int) -> memoryview:
        """A completion's bytes, read-only; keeps nothing from being given back.

        Raises what :meth:`locate` does, and UnreadableMemory.
        """
        at, index = off & OFFSET_MASK, off >> AREA_SHIFT
        if index < len(self.looks):
            found = self.looks[index][at : at + length]
            if len(found) == length:
                return found
        memory, at = self.locate(off, length)  # says what is wrong
        return memoryview(memory)[at : at + length]  # or this does: it is unreadable

    # -- the kernel -------------------------------------------------------------

    def flush(self) -> bool:
        """Have the kernel take what is in the refill queue, now; gives whether it took any.

        Kernels before 7.2 cannot; then nothing happens.
        """
        before = self.rq.pending
        if not before or not self._can_flush:
            return False
        try:
            check(lib.pz_zcrx_ctrl(self._ring.raw, self._flush_ctrl), "flush refill queue")
        except KernelError:
            self._can_flush = False
            return False
        return self.rq.pending < before

    def arm_notice(self, kind: EventType) -> None:
        """Have the kernel notify us once of *kind*."""
        fields = {"zcrx_id": self.registered.zcrx_id, "op": CtrlOp.ARM_EVENT}
        ctrl = ffi.new("struct pz_ctrl *", fields)
        ctrl.payload[0] = kind
        # EINVAL: it is armed already.
        with suppress(InvalidRequest):
            check(lib.pz_zcrx_ctrl(self._ring.raw, ctrl), "arm notification")

    def interface_gone(self) -> bool:
        """Whether its NIC was taken away, as far as the kernel tells."""
        return not self.nodev and interface_gone(self._ring, self.registered.zcrx_id)

    # -- the end ------------------------------------------------------------------

    def forget_memory(self) -> None:
        """Let go of the areas' memory: their ring was closed, or this is a forked child."""
        self.memories.clear()
        self.looks.clear()

    def closed_by_ring(self) -> None:
        """Its ring is about to go, and the registration with it."""
        for area in self.areas:
            area.token = None
        self.forget_memory()
        if self.registered.rq_of_kernel:
            self.rq._mapping.detach()

    def __repr__(self) -> str:
        where = "NODEV" if self.nodev else f"{self.interface} queue {self.rx_queue}"
        return f"<InterfaceQueue {where}, {len(self.areas)} areas>"

"""The buffers of one area as the kernel in memory keeps them: free, or with the user."""

from __future__ import annotations

from typing import Any

from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE
from pyzcrx.uapi import AREA_SHIFT, OFFSET_MASK


class Pool:
    """Kernel: ``io_uring/zcrx.c``, ``user_refs`` and the free list (7.3)."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.niovs = 0
        self.user_refs: list[int] = []
        self.free: list[int] = []
        self._area = 0
        self._rq: Any = None
        self._mask = 0

    def serve(self, area: Any, region: Any, rq_entries: int) -> None:
        """Hand out buffers of that area; they come back by the refill queue in that region."""
        self._area = int(area.addr)
        self.niovs = int(area.len) // PAGE
        self.user_refs = [0] * self.niovs
        self.free = list(range(self.niovs))
        self._mask = rq_entries - 1
        base = int(region.user_addr)
        self._rq = {
            "head": ffi.cast("uint32_t *", base),
            "tail": ffi.cast("uint32_t *", base + 4),
            "rqes": ffi.cast("struct pz_rqe *", base + 64),
        }

    def leave(self) -> None:
        """The ring went, and its memory."""
        self._area, self._rq = 0, None

    @property
    def serves(self) -> bool:
        return self._rq is not None

    def top(self) -> int:
        """The buffer that the next copy goes to, as an offset; -1: there is none."""
        if not self.free:
            return -1
        niov = self.free[-1]
        if self.user_refs[niov]:
            self.breaches.append(f"niov {niov} is free and out at once")
        return niov * PAGE

    def put(self, data: bytes) -> None:
        """Copy *data*, a page at most, into that buffer; it is out with the user then."""
        niov = self.free.pop()
        ffi.memmove(ffi.cast("char *", self._area + niov * PAGE), data, len(data))
        self.user_refs[niov] += 1

    def take_refill(self, most: int | None = None) -> None:
        """Take back what lies in the refill queue; None: all."""
        rq = self._rq
        most = self._mask + 1 if most is None else most
        while most and rq is not None and rq["head"][0] != rq["tail"][0]:
            off = int(rq["rqes"][rq["head"][0] & self._mask].off)
            rq["head"][0] = (rq["head"][0] + 1) & 0xFFFFFFFF
            most -= 1
            niov = (off & OFFSET_MASK) // PAGE
            if off >> AREA_SHIFT or niov >= self.niovs:
                self.breaches.append(f"refill entry {off:#x} names no buffer")
            elif not self.user_refs[niov]:
                self.breaches.append(f"niov {niov} was given back twice")
            else:
                self.user_refs[niov] -= 1
                self.free.append(niov)

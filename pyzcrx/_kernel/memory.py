"""Mappings that live exactly as long as somebody can see them.

The memory of areas and rings is held by a :class:`~pyzcrx._lease.Span`; views,
slices, arrays and leases hold the span, and the last of them unmaps. So closing
an object never pulls memory from under a reader, and forgets nothing.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import NamedTuple

from pyzcrx._kernel import fork
from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx._lease import Span
from pyzcrx.errors import ClosedError

PAGE = mmap.PAGESIZE


def page_align(size_bytes: int) -> int:
    """*size_bytes* rounded up to whole pages."""
    return -(-size_bytes // PAGE) * PAGE


def _zero_in_child(span: Span) -> None:
    # Should something else have taken the place already, it is readable as well.
    lib.pz_map_zeroes(span._address, len(span))


class Extent(NamedTuple):
    """A stretch of memory, wherever it is mapped."""

    where: str | tuple[int, int]
    """``"address"``, or the file: device and inode."""
    start: int
    stop: int

    @classmethod
    def of_file(cls, fd: int, offset: int, size_bytes: int) -> Extent:
        found = os.fstat(fd)
        return cls((found.st_dev, found.st_ino), offset, offset + size_bytes)

    def overlaps(self, other: Extent) -> bool:
        return self.where == other.where and self.start < other.stop and other.start < self.stop


class Mapping:
    """Readable and writable memory at a fixed address; made by its class methods.

    With *forked* false a forked child gets zero pages in its place (:mod:`pyzcrx._kernel.fork`).
    """

    __slots__ = ("_span", "address", "extents", "size_bytes")

    address: int
    size_bytes: int
    extents: list[Extent]
    """What it is made of: two mappings of one file overlap in this."""
    _span: Span | None

    def __init__(self) -> None:
        raise TypeError("a Mapping is made by anonymous(), aligned(), of_file() or unreadable()")

    @classmethod
    def _take_over(
        cls, address: int, size_bytes: int, forked: bool, *, unreadable: bool = False
    ) -> Mapping:
        self = cls.__new__(cls)
        self.address = address
        self.size_bytes = size_bytes
        self.extents = [Extent("address", address, address + size_bytes)]
        memory = ffi.buffer(ffi.cast("char *", address), size_bytes)
        span = Span(memory, unreadable=unreadable)
        self._span = span
        weakref.finalize(span, lib.pz_unmap, address, size_bytes).atexit = False
        if not forked:
            check(lib.pz_dont_fork(address, size_bytes), "map memory")
            fork.guard(span, _zero_in_child)
        return self

    @classmethod
    def anonymous(cls, size_bytes: int, *, huge_shift: int = 0, forked: bool = True) -> Mapping:
        """Private zeroed pages; of ``1 << huge_shift`` bytes each where that is not 0."""
        address = check(lib.pz_map_anonymous(size_bytes, huge_shift), "map memory")
        return cls._take_over(address, size_bytes, forked)

    @classmethod
    def aligned(cls, size_bytes: int, alignment: int, *, forked: bool = True) -> Mapping:
        """As :meth:`anonymous`, at a multiple of *alignment*: more is mapped, its middle kept."""
        start = check(lib.pz_map_anonymous(size_bytes + alignment, 0), "map memory")
        address = -(-start // alignment) * alignment
        if address > start:
            check(lib.pz_unmap(start, address - start), "map memory")
        tail = start + alignment - address
        if tail:
            check(lib.pz_unmap(address + size_bytes, tail), "map memory")
        return cls._take_over(address, size_bytes, forked)

    @classmethod
    def unreadable(cls, size_bytes: int) -> Mapping:
        """Addresses that stand for memory of another device; nobody can view them."""
        address = check(lib.pz_map_nothing(size_bytes), "map memory")
        return cls._take_over(address, size_bytes, False, unreadable=True)

    @classmethod
    def of_file(cls, fd: int, offset: int, size_bytes: int) -> Mapping:
        """Pages shared with a file; a forked child does not share them."""
        address = check(lib.pz_map_fd(fd, offset, size_bytes), "map memory")
        mapping = cls._take_over(address, size_bytes, False)
        mapping.extents.append(Extent.of_file(fd, offset, size_bytes))
        return mapping

    @property
    def span(self) -> Span:
        if self._span is None:
            raise ClosedError("the memory was closed")
        return self._span

    @property
    def view(self) -> memoryview:
        """All of it as bytes, writable."""
        return memoryview(self.span)

    def words(self, address: int, rows: int, columns: int) -> memoryview:
        """A read-only ``(rows, columns)`` view of 64-bit words from *address* on."""
        at = address - self.address
        flat = self.view[at : at + rows * columns * 8]
        return flat.toreadonly().cast("Q", shape=[rows, columns])

    def detach(self) -> None:
        """Become a private copy, in place: lets go of the file behind the pages."""
        check(lib.pz_detach(self.address, self.size_bytes), "detach memory")

    def close(self) -> None:
        """Unmap, or leave that to the last view."""
        self._span = None

"""The guest's memory, by the addresses that the driver gives to its device."""

from __future__ import annotations

import mmap


class NotMapped(Exception):
    """The driver named an address that the guest has no memory at."""


class Memory:
    """Ranges of DMA addresses, each a part of a file that QEMU shares.

    QEMU maps all at first, then pieces of it, and the old range may go late: ranges overlap,
    and any of them is right.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, memoryview]] = []

    def add(self, address: int, size: int, fd: int, offset: int) -> None:
        """Map ``size`` bytes of the file. The descriptor stays the caller's."""
        view = memoryview(mmap.mmap(fd, size, offset=offset))
        self._ranges.append((address, address + size, view))
        self._ranges.sort(key=lambda each: each[0] - each[1])  # the largest is asked first

    def remove(self, address: int, size: int) -> None:
        """Forget the range. Views of it stay readable as long as anything holds them."""
        gone = (address, address + size)
        self._ranges = [each for each in self._ranges if each[:2] != gone]

    def clear(self) -> None:
        self._ranges.clear()

    def at(self, address: int, length: int) -> memoryview:
        """A writable view of these bytes."""
        end = address + length
        for start, stop, view in self._ranges:
            if start <= address and end <= stop:
                return view[address - start : end - start]
        raise NotMapped(f"{length} bytes at {address:#x}")

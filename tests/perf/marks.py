"""Marks for an emulator that counts instructions: no-ops that carry a number.

In the guest, ``zcrx-bench --marks tests.perf.marks`` has each receiver in Python mark its run;
the one in C does so itself (``csrc/bench/mark.h``).

A mark is a long ``nop`` whose displacement no compiler emits. On any machine it does
nothing; ``vm/plugin/count.c`` sees it when it is translated, and knows by it which thread
receives, from where to where, and where its payload lies.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path
from typing import Any

from pyzcrx.bench import receive
from pyzcrx.bench.meter import Meter

_NOP = b"\x0f\x1f\x84\x00"  # nopl disp32(%rax,%rax,1)
_RET = b"\xc3"
_TAG = 0x5A000000
_SHIFT = 20
_MASK = (1 << _SHIFT) - 1
BEGIN, END, DIGITS, RANGE = 1, 2, 3, 4
_PAGE_SHIFT = 12


def instruction(operation: int, value: int) -> bytes:
    """One mark."""
    return _NOP + (_TAG | operation << _SHIFT | value & _MASK).to_bytes(4, "little")


def begin(number: int) -> bytes:
    """The thread that runs this receives, from here on, as run *number*."""
    return instruction(BEGIN, number)


def end(number: int) -> bytes:
    """To here."""
    return instruction(END, number)


def payload(address: int, size_bytes: int) -> bytes:
    """Payload lies here: the whole pages that hold *size_bytes* from *address*."""
    first = address >> _PAGE_SHIFT
    pages = (address + size_bytes - 1 >> _PAGE_SHIFT) - first + 1
    digits = [first >> _SHIFT, first, pages >> _SHIFT, pages]
    return b"".join(instruction(DIGITS, digit) for digit in digits) + instruction(RANGE, 0)


class Marker:
    """Executes marks; on other machines than x86-64 it does nothing."""

    def __init__(self) -> None:
        self._code: mmap.mmap | None = None
        if platform.machine() == "x86_64":
            access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
            self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=access)
            self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
            self._used = 0

    def prepare(self, marks: bytes) -> ctypes._FuncPointer | None:
        """A function that executes them."""
        if self._code is None:
            return None
        start = self._used
        code = marks + _RET
        self._code[start : start + len(code)] = code
        self._used += len(code)
        return ctypes.CFUNCTYPE(None)(self._at + start)


class Marking(Meter):
    """Marks what it measures as run *number*; with the number 0 it marks nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._marker = Marker()
        self._begin = self._marker.prepare(begin(number))
        self._end = self._marker.prepare(end(number))

    def payload(self, address: int, size_bytes: int) -> None:
        if self._number and (mark := self._marker.prepare(payload(address, size_bytes))):
            mark()

    def start(self) -> None:
        super().start()
        if self._number and self._begin:
            self._begin()

    def end(self) -> None:
        if self._number and self._end:
            self._end()  # a second one does nothing

    def stop(self, *, size_bytes: int, chunks: int, turns: int, **more: Any) -> None:
        self.end()
        if self._number and self._end:
            more["maps"] = _code()
        super().stop(size_bytes=size_bytes, chunks=chunks, turns=turns, **more)


def _code() -> list[tuple[int, int, int, str]]:
    """Where our code lies: start, end, offset in the file, file."""
    code = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access, offset, _, _, *name = line.split(maxsplit=5)
        if "x" in access:
            start, stop = span.split("-")
            code.append((int(start, 16), int(stop, 16), int(offset, 16), "".join(name)))
    return code


if __name__ == "__main__":
    receive.main(sys.argv[1], lambda job: Marking(job.mark))

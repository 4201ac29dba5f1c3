"""The bytes of one send: where they lie, as few stretches of memory as possible."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeAlias, runtime_checkable

from pyzcrx._kernel._ffi import ffi
from pyzcrx._lease import Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx.errors import BadArgument

MAX_SEND_BUFFERS = 1024
"""UIO_MAXIOV"""


@runtime_checkable
class Several(Protocol):
    """What a stream hands out (Chunk): buffers, with one owner."""

    def views(self) -> list[memoryview]: ...
    def _let_go(self) -> None: ...


Piece: TypeAlias = Buffer | Span | Several | bytes | bytearray | memoryview


def as_pieces(data: Piece | Sequence[Piece]) -> tuple[Piece, ...]:
    """One piece, or several, as several. Raises BadArgument (their number)."""
    if isinstance(data, Span | Several | bytes | bytearray | memoryview):
        return (data,)
    pieces = tuple(data)
    if not 0 < len(pieces) <= MAX_SEND_BUFFERS:
        raise BadArgument(f"{len(pieces)} buffers are not between 1 and {MAX_SEND_BUFFERS}")
    return pieces


def _views(pieces: Sequence[Piece]) -> Iterator[Span | bytes | bytearray | memoryview]:
    for piece in pieces:
        if isinstance(piece, Buffer):
            yield piece.view()
        elif isinstance(piece, Several):
            yield from piece.views()
        else:
            yield piece


def _lasts(piece: Span | bytes | bytearray | memoryview) -> bool:
    """Whether the bytes stay as they are for as long as a view of them lives.

    True of a Buffer, its views and what is made of them (subclasses of Span), and of bytes.
    A plain Span is what a batch shows: its bytes go with the ring's next turn.
    """
    if isinstance(piece, memoryview):
        owner: object = piece.obj
        return _is_pin(owner) or isinstance(owner, bytes) or _lasts_span(owner)
    return isinstance(piece, bytes) or _lasts_span(piece)


def _lasts_span(owner: object) -> bool:
    return isinstance(owner, Span) and type(owner) is not Span


def _is_pin(owner: object) -> bool:
    """What a view of a Buffer refers to (csrc/view.c)."""
    return type(owner).__module__ == "pyzcrx._lease" and type(owner).__name__ == "Pin"


class Pieces:
    """Views of all pieces, until :meth:`end`; neighbours in memory are one stretch."""

    __slots__ = ("_bases", "_ends", "_views", "lasting", "size_bytes")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        # Views, so that no buffer can be released while the kernel reads it.
        views = list(_views(pieces))
        self._views = [ffi.from_buffer(view) for view in views]
        self.lasting = all(map(_lasts, views))
        """Whether nothing can change the bytes before :meth:`end`."""
        self._bases: list[int] = []
        lengths: list[int] = []
        end = -1
        for view in self._views:
            base, length = int(ffi.cast("uintptr_t", view)), len(view)
            if base == end and length:
                lengths[-1] += length
            elif length:
                self._bases.append(base)
                lengths.append(length)
            end = base + length
        self._ends = list(accumulate(lengths))
        """Where each stretch ends in the bytes of all."""
        self.size_bytes = self._ends[-1] if lengths else 0

    @property
    def stretches(self) -> int:
        """How many entries of an iovec lead to all of it."""
        return len(self._bases)

    def reach(self, begin: int, most: int) -> int:
        """To how many bytes an :meth:`iovec` of these arguments leads."""
        last = min(bisect_right(self._ends, begin) + most, len(self._ends))
        return self._ends[last - 1] - begin if last else 0

    def iovec(self, begin: int, most: int = MAX_SEND_BUFFERS) -> tuple[Any, int, int]:
        """Up to *most* entries that lead to the bytes behind the first *begin*.

        Gives them, how many, and to how many bytes they lead.
        """
        first = bisect_right(self._ends, begin)
        last = min(first + most, len(self._ends))
        entries = ffi.new("struct pz_iov[]", max(1, last - first))
        at = begin
        for i, entry in zip(range(first, last), entries, strict=False):
            skip = at - (self._ends[i - 1] if i else 0)
            entry.base = self._bases[i] + skip
            entry.len = self._ends[i] - at
            at = self._ends[i]
        return entries, last - first, at - begin

    def lies_in(self, start: int, stop: int) -> bool:
        """Whether any of it lies in the memory from *start* to *stop*."""
        return any(start <= base < stop for base in self._bases)

    def end(self) -> None:
        """Nothing reads the bytes any more. Idempotent."""
        for view in self._views:
            ffi.release(view)
        self._views = []

"""Bytes in order that lie in several buffers, and how they are taken from the front.

An interruption loses no byte. What is taken stays at the front until the buffers that it was
copied from are given back; then plain stores, in which no signal handler runs, remove it.
"""

from __future__ import annotations

from typing import TypeAlias

from pyzcrx import _lease
from pyzcrx._lease import RunLease, expand, gather, gather_into
from pyzcrx._queue.buffer import Buffer
from pyzcrx.errors import BadArgument

Piece: TypeAlias = Buffer | RunLease | memoryview


def seen(piece: Piece) -> memoryview:
    """The bytes of a piece, where they lie. Not of a run."""
    assert not isinstance(piece, RunLease)
    return piece.view() if isinstance(piece, Buffer) else piece


class Pieces(_lease.Pieces):
    """Not for several threads at a time."""

    __slots__ = ()
    _pieces: list[Piece]
    _spent: list[Buffer | RunLease]

    def __init__(self) -> None:
        self._pieces = []
        """Memoryviews come first: of copies, or the rest of a buffer, which goes back with its
        last view."""
        self._nbytes = 0
        self._runs = False
        """Whether runs may be among the pieces: :meth:`_expand` them before a look at the bytes."""
        self._spent = []
        """Buffers that were taken to their end, to be given back."""

    def _expand(self) -> None:
        """Let each piece have bytes."""
        if self._runs:
            expand(self._pieces)
            self._runs = False

    def _gather(self, n: int) -> bytes:
        """Copy the first *n* bytes together, once; they stay the first until :meth:`_drop`."""
        if not n:
            return b""
        data = gather(self._pieces, n)
        self._replace(n, memoryview(data))
        return data

    def _gather_into(self, memory: memoryview) -> None:
        """The same, into all of *memory*."""
        gather_into(self._pieces, memory)
        try:
            self._replace(len(memory), memory)
        except BaseException:
            # The first piece may lie in memory that its reader uses for something else.
            if self._pieces and isinstance(self._pieces[0], memoryview):
                self._pieces[0] = memoryview(bytes(self._pieces[0]))
            raise

    def _look(self, n: int) -> memoryview | None:
        """The first *n* bytes where they lie, as the first piece; None: not in one buffer."""
        if not 0 < n <= len(self._pieces[0]):
            return None
        view = seen(self._pieces[0])[:n]
        self._replace(n, view)
        return view

    def _drop(self, n: int) -> None:
        """The *n* bytes of the first piece were taken. Calls nothing: nothing can come between."""
        if n:
            self._nbytes -= n
            del self._pieces[0]

    def _replace(self, n: int, data: memoryview) -> None:
        """*data* in the place of the first *n* bytes; the buffers of these go back."""
        count, over = 0, -n
        while over < 0:
            over += len(self._pieces[count])
            count += 1
        spent = [piece for piece in self._pieces[:count] if isinstance(piece, Buffer)]
        first = [data]
        if over:
            first.append(seen(self._pieces[count - 1])[-over:])
        # No call from here on.
        self._pieces[:count] = first
        self._spent += spent
        # And now it may be interrupted again.
        spent = []
        self._release_spent()

    def _release_spent(self) -> None:
        while self._spent:
            self._spent[-1]._let_go()  # once is enough, twice does nothing
            del self._spent[-1]

    def _check(self, n: int) -> None:
        if not 0 <= n <= self._nbytes:
            raise BadArgument(f"{n} bytes of {self._nbytes} that have arrived; ask for fewer")

"""What a stream hands out where it lies: a lease on all that arrived."""

from __future__ import annotations

from pyzcrx import _lease
from pyzcrx._common.checked import MOST_BYTES, integer
from pyzcrx._lease import gather
from pyzcrx._receive.pieces import Piece, Pieces, seen
from pyzcrx.errors import ClosedError, DoubleRelease


class Chunk(Pieces, _lease.Chunk):
    """Bytes of one connection in the order of the stream, not copied: what one turn brought.

    Several turns, where the stream was not read between them. ``len(chunk)`` is in bytes.
    Yours until :meth:`release`, or the end of ``with chunk:``; it outlives its stream. A view
    keeps its buffer: bytes that are still viewed go back with the last view, so memory never
    changes under a reader. A chunk that is forgotten gives itself back. Not for several threads
    at a time.

    ::

        for chunk in stream:
            with chunk:
                for view in chunk.views():
                    consume(view)
    """

    __slots__ = ("__weakref__",)

    def __init__(self, pieces: list[Piece], nbytes: int, runs: bool = False) -> None:
        """Use :class:`pyzcrx.types.Stream`."""
        super().__init__()
        self._pieces = pieces
        self._nbytes = nbytes
        self._runs = runs

    @property
    def nbytes(self) -> int:
        """Bytes that were not taken."""
        return self._nbytes

    def views(self) -> list[memoryview]:
        """The bytes where they lie, read-only: a view for each buffer, in order.

        Raises ClosedError after :meth:`release`, ForkedChild in a forked child.
        """
        self._check_held()
        self._expand()
        return [seen(piece) for piece in self._pieces]

    def __bytes__(self) -> bytes:
        """All of them, copied together once."""
        self._check_held()
        self._expand()
        return gather(self._pieces, self._nbytes)

    def take(self, n: int) -> memoryview:
        """The next *n* bytes, which leave the chunk: in place where one buffer has them.

        Across buffers they are gathered into new memory, once. Raises BadArgument where the
        chunk has fewer, ClosedError after :meth:`release`.
        """
        self._check_held()
        integer("n", n, 0, MOST_BYTES)
        self._check(n)
        if not n:
            return memoryview(b"")
        self._expand()
        view = self._look(n) or memoryview(self._gather(n))
        self._drop(n)
        return view

    def _refused(self, _verdict: int) -> None:
        """What :meth:`release` could not."""
        raise DoubleRelease("the chunk was released before; release each chunk once")

    def _check_held(self) -> None:
        if self._released:
            raise ClosedError("the chunk was released: its bytes are the kernel's again")

    def __repr__(self) -> str:
        return f"<Chunk {self._nbytes} bytes{', released' if self._released else ''}>"

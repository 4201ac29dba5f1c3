"""What a send takes: one piece or several, which :class:`pyzcrx._lease.Iovec` makes one of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, cast

from pyzcrx._lease import Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx.errors import BadArgument

MAX_SEND_BUFFERS = 1024
"""UIO_MAXIOV"""


class Several(Protocol):
    """What a stream hands out (Chunk): buffers, with one owner."""

    def views(self) -> list[memoryview]: ...
    def _let_go(self) -> None: ...


Piece: TypeAlias = Buffer | Span | Several | bytes | bytearray | memoryview
_SEQUENCES = (list, tuple)
_ONE = (Span, bytes, bytearray, memoryview)


def as_pieces(data: Piece | Sequence[Piece]) -> tuple[Piece, ...]:
    """One piece, or several, as several. Raises BadArgument (their number)."""
    if not isinstance(data, _SEQUENCES) and (isinstance(data, _ONE) or hasattr(data, "views")):
        return (cast("Piece", data),)
    pieces = tuple(cast("Sequence[Piece]", data))
    if not 0 < len(pieces) <= MAX_SEND_BUFFERS:
        raise BadArgument(f"{len(pieces)} buffers are not between 1 and {MAX_SEND_BUFFERS}")
    return pieces

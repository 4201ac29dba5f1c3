"""The bytes of one connection between the ring and their reader, without I/O.

Buffers and the events of the request go in at :attr:`Chunks.incoming`; bytes, views and chunks
come out. The driver (a blocking stream, an event loop) takes the turns. An interruption loses no
byte (:mod:`pyzcrx._receive.pieces`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from pyzcrx._common.checked import MOST_BYTES
from pyzcrx._lease import Inbox, RunLease, gather
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.chunk import Chunk
from pyzcrx._receive.pieces import Piece, Pieces, seen
from pyzcrx._ring.outcomes import End, Failed, Limit
from pyzcrx.errors import BadArgument

Incoming: TypeAlias = Buffer | RunLease | End[Any] | Limit[Any] | Failed[Any]
"""What a request brings."""


class Chunks(Pieces, Inbox):
    """What arrived and was not read. Not for several threads at a time."""

    __slots__ = (
        "__weakref__",
        "_searched",
        "_searched_pieces",
        "_separator",
        "_tail",
        "abandoned",
        "ended",
        "failure",
        "most_bytes",
        "notify",
        "spilled_bytes",
    )

    incoming: list[Incoming]

    def __init__(self) -> None:
        super().__init__()
        self.incoming = []
        self.most_buffers = 1 << 62
        self.at_once_bytes = MOST_BYTES
        self.among = -1
        self.most_bytes: int | None = None
        """It is received no further; None: to its end."""
        self.notify: Callable[[], None] | None = None
        """What an event loop calls after a turn that brought something."""
        self.abandoned = False
        """Whether its reader was forgotten: :meth:`relieve` gives everything back."""
        self.ended = False
        """Whether the peer ended the stream."""
        self.failure: Exception | None = None
        """How the stream failed; what arrived before is still here."""
        self.spilled_bytes = 0
        """Bytes copied out of the area before anybody read them."""
        self._separator = b""
        self._searched = self._searched_pieces = 0
        self._tail = b""

    # -- in -------------------------------------------------------------------

    def limit(self, received_bytes: int) -> int:
        """With which limit the request, which brought *received_bytes*, is resumed; 0: not."""
        if self.most_bytes is None:
            return self.at_once_bytes
        return min(self.at_once_bytes, self.most_bytes - received_bytes)

    def feed(self, arrived: Incoming) -> None:
        """The next that the connection brought."""
        self.incoming += (arrived,)

    def absorb(self) -> None:
        """Take over what came in."""
        if self._spent:
            self._release_spent()
        while self.incoming:
            incoming = list(self.incoming)
            pieces: list[Piece] = []
            nbytes = 0
            runs = self._runs
            ended, failure, limited = self.ended, self.failure, self.limited
            for arrived in incoming:
                if isinstance(arrived, (RunLease, Buffer)):
                    pieces.append(arrived)
                    nbytes += len(arrived)
                    runs = runs or isinstance(arrived, RunLease)
                elif isinstance(arrived, Failed):
                    failure = arrived.error
                elif isinstance(arrived, End):
                    ended = True
                else:
                    limited = True
            taken = len(incoming)
            # No call from here on.
            self._runs = runs
            self._pieces += pieces
            self._nbytes += nbytes
            self.ended, self.failure, self.limited = ended, failure, limited
            del self.incoming[:taken]

    # -- what there is --------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes that can be read."""
        if self.incoming or self._spent:
            self.absorb()
        return self._nbytes

    @property
    def at_end(self) -> bool:
        """Whether all was read and the peer ended the stream."""
        return self.nbytes == 0 and self.ended

    @property
    def statistics(self) -> dict[str, int]:
        """Bytes handed out in place, gathered by one copy, and copied early to free the area."""
        return {
            "viewed_bytes": self.viewed_bytes,
            "gathered_bytes": self.gathered_bytes,
            "spilled_bytes": self.spilled_bytes,
        }

    # -- out ------------------------------------------------------------------

    def next_chunk(self) -> Chunk:
        """All that is there, not copied, now the reader's to release. There must be something."""
        offered: Chunk | None = self._offer_chunk(Chunk)
        if offered is not None:
            self._offered = False  # no call: it leaves
            return offered
        self.absorb()
        self._check(1)
        chunk = Chunk(list(self._pieces), self._nbytes, self._runs)
        # No call from here on.
        self.viewed_bytes += self._nbytes
        self._pieces = []
        self._runs = False
        self._nbytes = 0
        self._separator = b""
        return chunk

    def take(self, n: int) -> memoryview:
        """The next *n* bytes (there must be as many): in place where one buffer has them.

        Across buffers they are gathered into new memory, once. The view keeps the buffer.
        """
        self._require(n)
        if not n:
            return memoryview(b"")
        self._separator = b""
        view = self._look(n)
        if view is None:
            view = memoryview(self.gather(n))
        else:
            self.viewed_bytes += n
        self._drop(n)
        return view

    def read(self, n: int) -> bytes:
        """The next *n* bytes, of which there must be as many, copied once."""
        data = self.gather(n)
        self._drop(n)
        return data

    def read_some(self, most: int) -> bytes:
        """At most *most* bytes, copied once: whole buffers, as long as one has no more."""
        data = self._offer_bytes(most)
        if data is not None:
            self._offered = False  # no call: they leave
            return data
        return self.read(min(most, self.nbytes))

    def fill(self, memory: memoryview) -> int:
        """As :meth:`read_some`, into *memory* (of bytes). Gives how many."""
        n = self._offer_into(memory)
        if n:
            self._offered = False  # no call: they leave
            return n
        return self.copy_into(memory)

    def gather(self, n: int) -> bytes:
        """Copy the next *n* bytes together, once; they stay the next ones until :meth:`drop`."""
        self._require(n)
        self._separator = b""
        data = self._gather(n)
        self.gathered_bytes += n
        return data

    def drop(self, n: int) -> None:
        """The *n* bytes that were gathered are read."""
        self._drop(n)

    def find(self, separator: bytes) -> int:
        """Where the first *separator* ends, in bytes from here; -1: it has not come.

        Remembers how far it looked: no byte is looked at twice for one separator.
        """
        if not isinstance(separator, bytes) or not separator:
            raise BadArgument(f"the separator is one byte or more, not {separator!r:.60}")
        self.absorb()
        self._expand()
        if separator != self._separator:
            self._searched = self._searched_pieces = 0
            self._tail = b""
            self._separator = separator
        pattern = re.compile(re.escape(separator))
        short = len(separator) - 1
        while self._searched_pieces < len(self._pieces):
            view = seen(self._pieces[self._searched_pieces])
            joint = (self._tail + bytes(view[:short])).find(separator) if self._tail else -1
            if joint >= 0:
                return self._searched - len(self._tail) + joint + len(separator)
            found = pattern.search(view)
            if found is not None:
                return self._searched + found.end()
            tail = (self._tail + bytes(view[-short:]))[-short:] if short else b""
            size = len(view)
            # No call from here on.
            self._tail = tail
            self._searched += size
            self._searched_pieces += 1
        return -1

    def take_until(self, separator: bytes) -> memoryview | None:
        """As :meth:`take`, up to the end of *separator*; None: it has not come."""
        end = self.find(separator)
        return None if end < 0 else self.take(end)

    def copy_into(self, memory: memoryview) -> int:
        """Copy as much as *memory* (of bytes) has room for, in one pass. Gives how much."""
        n = min(len(memory), self.nbytes)
        if n:
            self._expand()
            self._separator = b""
            self._gather_into(memory[:n])
            self.gathered_bytes += n
            self._drop(n)
        return n

    def _require(self, n: int) -> None:
        self.absorb()
        self._check(n)
        self._expand()

    # -- memory -----------------------------------------------------------------

    def relieve(self) -> None:
        """Copy out of the area if there are too many buffers, as with tiny segments."""
        if self.abandoned:
            self.clear()
        elif self.buffers > self.most_buffers:
            self.spill()

    def spill(self) -> None:
        """Copy all that lies in buffers out of the area, into one piece."""
        self.absorb()
        leased = self.buffers
        if not leased:
            return
        self._expand()
        start = len(self._pieces) - leased
        spent = [piece for piece in self._pieces[start:] if isinstance(piece, Buffer)]
        size = sum(map(len, spent))
        copy = memoryview(gather(spent, size))
        # No call from here on.
        self._pieces[start:] = [copy]
        self._spent += spent
        self.spilled_bytes += size
        self._separator = b""
        spent = []
        self._release_spent()

    def clear(self) -> None:
        """Give everything back."""
        self.absorb()
        spent = [piece for piece in self._pieces if isinstance(piece, (RunLease, Buffer))]
        # No call from here on.
        self._pieces = []
        self._runs = False
        self._spent += spent
        self._nbytes = 0
        self._separator = b""
        spent = []
        self._release_spent()

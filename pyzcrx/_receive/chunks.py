"""The bytes of one connection between the ring and their reader, without I/O.

Events go in at :attr:`Chunks.incoming`; bytes, views and buffers come out. The driver (a blocking
stream, an event loop) takes the turns.

An interruption loses no byte. What is read stays at the front until the buffers that it was
copied from are given back; then plain stores, in which no signal handler runs, remove it.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Self, TypeAlias

from pyzcrx._lease import Data, Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx._ring.outcomes import End, Failed, Limit
from pyzcrx.errors import BadArgument, ZcrxError

Event: TypeAlias = Data[Any, Buffer] | End[Any] | Limit[Any] | Failed[Any]
"""What a request brings."""


class Part(Span):
    """The rest of a buffer that was read in part: to its reader a Buffer, read-only.

    Its bytes go back once the part and every view of it are gone.
    """

    def __new__(cls, view: memoryview) -> Part:
        """The bytes of *view*."""
        part = super().__new__(cls, view, 0, -1, True)
        assert isinstance(part, Part)
        return part

    def view(self) -> memoryview:
        """The bytes, where they lie."""
        return memoryview(self)

    def release(self) -> None:
        """Nothing: drop the part. It stands for :meth:`Buffer.release`."""

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _look(piece: Buffer | memoryview) -> memoryview:
    return piece.view() if isinstance(piece, Buffer) else piece


class Chunks:
    """What arrived and was not read. Not for several threads at a time."""

    def __init__(self) -> None:
        self.incoming: list[Any] = []
        """Events of the connection, in order; append them here."""
        self.most_buffers = 1 << 62
        """With more, :meth:`relieve` copies them out of the area."""
        self.abandoned = False
        """Whether its reader was forgotten: :meth:`relieve` gives everything back."""
        self.limited = False
        """Whether the request reached its limit, and is to be resumed."""
        self.ended = False
        """Whether the peer ended the stream."""
        self.failure: ZcrxError | None = None
        """How the stream failed; what arrived before is still here."""
        self.viewed_bytes = 0
        """Bytes handed out where they lay."""
        self.gathered_bytes = 0
        """Bytes copied once, for the reader."""
        self.spilled_bytes = 0
        """Bytes copied out of the area before anybody read them."""
        self._pieces: list[Buffer | memoryview] = []
        """In order. Memoryviews come first: of copies, or the rest of a buffer that goes back
        with its last view."""
        self._nbytes = 0
        self._spent: list[Buffer] = []
        """Buffers that were read to their end, to be given back."""
        self._separator = b""
        self._searched = self._searched_pieces = 0
        self._tail = b""

    # -- in -------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """The next event of the connection."""
        self.incoming += (event,)

    def _absorb(self) -> None:
        """Take the incoming events over."""
        if self._spent:
            self._release_spent()
        while self.incoming:
            events = list(self.incoming)
            pieces: list[Buffer | memoryview] = []
            nbytes = 0
            ended, failure, limited = self.ended, self.failure, self.limited
            for event in events:
                if isinstance(event, Data):
                    pieces.append(event.buffer)
                    nbytes += len(event.buffer)
                elif isinstance(event, Failed):
                    failure = event.error
                elif isinstance(event, End):
                    ended = True
                else:
                    limited = True
            taken = len(events)
            # No call from here on.
            self._pieces += pieces
            self._nbytes += nbytes
            self.ended, self.failure, self.limited = ended, failure, limited
            del self.incoming[:taken]

    # -- what there is --------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes that can be read."""
        self._absorb()
        return self._nbytes

    @property
    def buffers(self) -> int:
        """Buffers of the area that lie here."""
        self._absorb()
        return sum(isinstance(piece, Buffer) for piece in self._pieces)

    @property
    def at_end(self) -> bool:
        """Whether all was read and the peer ended the stream."""
        return self.nbytes == 0 and self.ended

    # -- out ------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        """The next *n* bytes (there must be as many): in place where one buffer has them.

        Across buffers they are gathered into new memory, once. The view keeps the buffer.
        """
        self._check(n)
        if not n:
            return memoryview(b"")
        if n <= len(self._pieces[0]):
            view = _look(self._pieces[0])[:n]
            self._put_first(1, n, view)
            self.viewed_bytes += n
        else:
            view = memoryview(self.gather(n))
        self.drop(n)
        return view

    def read(self, n: int) -> bytes:
        """The next *n* bytes, of which there must be as many, copied once."""
        data = self.gather(n)
        self.drop(n)
        return data

    def gather(self, n: int) -> bytes:
        """Copy the next *n* bytes together, once; they stay the next ones until :meth:`drop`."""
        self._check(n)
        if not n:
            return b""
        views: list[memoryview] = []
        left = n
        while left:
            views.append(_look(self._pieces[len(views)])[:left])
            left -= len(views[-1])
        data = b"".join(views)
        count = len(views)
        views = []
        self._put_first(count, n, memoryview(data))
        self.gathered_bytes += n
        return data

    def drop(self, n: int) -> None:
        """The *n* bytes that were gathered are read. Calls nothing, so nothing can come between."""
        if n:
            self._nbytes -= n
            del self._pieces[0]
            self._separator = b""

    def _put_first(self, count: int, n: int, data: memoryview) -> None:
        """*data* in the place of the *n* bytes that the first *count* pieces have."""
        spent = [piece for piece in self._pieces[:count] if isinstance(piece, Buffer)]
        over = sum(len(piece) for piece in self._pieces[:count]) - n
        first = [data]
        if over:
            first.append(_look(self._pieces[count - 1])[-over:])
        # No call from here on.
        self._pieces[:count] = first
        self._spent += spent
        self._separator = b""
        # And now it may be interrupted again.
        spent = []
        self._release_spent()

    def _release_spent(self) -> None:
        while self._spent:
            self._spent[-1].let_go()  # once is enough, twice does nothing
            del self._spent[-1]

    def _check(self, n: int) -> None:
        self._absorb()
        if not 0 <= n <= self._nbytes:
            raise BadArgument(f"{n} bytes of {self._nbytes} that have arrived; ask for fewer")

    def find(self, separator: bytes) -> int:
        """Where the first *separator* ends, in bytes from here; -1: it has not come.

        Remembers how far it looked: no byte is looked at twice for one separator.
        """
        if not isinstance(separator, bytes) or not separator:
            raise BadArgument(f"the separator is one byte or more, not {separator!r:.60}")
        self._absorb()
        if separator != self._separator:
            self._searched = self._searched_pieces = 0
            self._tail = b""
            self._separator = separator
        pattern = re.compile(re.escape(separator))
        short = len(separator) - 1
        while self._searched_pieces < len(self._pieces):
            piece = self._pieces[self._searched_pieces]
            view = _look(piece)
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
        self._absorb()
        n = min(len(memory), self._nbytes)
        if not n:
            return 0
        done = count = 0
        while done < n:
            part = _look(self._pieces[count])[: n - done]
            memory[done : done + len(part)] = part
            done += len(part)
            count += 1
        del part
        try:
            self._put_first(count, n, memory[:n])
        except BaseException:
            self._keep_first()
            raise
        self.gathered_bytes += n
        self.drop(n)
        return n

    def _keep_first(self) -> None:
        """The first piece may lie in memory that its reader uses for something else."""
        if self._pieces and isinstance(self._pieces[0], memoryview):
            self._pieces[0] = memoryview(bytes(self._pieces[0]))

    def next_buffer(self) -> Buffer | Part:
        """The next buffer, not copied, now the reader's to release. There must be one."""
        self._check(1)
        piece = self._pieces[0]
        handed = piece if isinstance(piece, Buffer) else Part(piece)
        size = len(handed)
        # No call from here on.
        self._nbytes -= size
        self.viewed_bytes += size
        del self._pieces[0]
        self._separator = b""
        return handed

    # -- memory -----------------------------------------------------------------

    def relieve(self) -> None:
        """Copy out of the area if there are too many buffers, as with tiny segments."""
        if self.abandoned:
            self.clear()
        elif len(self.incoming) + len(self._pieces) > self.most_buffers and (
            self.buffers > self.most_buffers
        ):
            self.spill()

    def spill(self) -> None:
        """Copy all that lies in buffers out of the area, into one piece."""
        leased = self.buffers
        if not leased:
            return
        start = len(self._pieces) - leased
        spent = [piece for piece in self._pieces[start:] if isinstance(piece, Buffer)]
        copy = memoryview(b"".join([piece.view() for piece in spent]))
        size = len(copy)
        # No call from here on.
        self._pieces[start:] = [copy]
        self._spent += spent
        self.spilled_bytes += size
        self._separator = b""
        spent = []
        self._release_spent()

    def clear(self) -> None:
        """Give everything back."""
        self._absorb()
        spent = [piece for piece in self._pieces if isinstance(piece, Buffer)]
        self._pieces = []
        self._spent += spent
        self._nbytes = 0
        self._separator = b""
        spent = []
        self._release_spent()

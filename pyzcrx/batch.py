"""The batch fast path: what one turn brought, as columns.

Nothing is made per packet here. In exchange the promise is weaker than a
:class:`~pyzcrx.buffer.Buffer`'s: a view taken from a batch does **not** keep its
bytes from being given back, and everything ends with the ring's next turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from pyzcrx.audit import TAKEN
from pyzcrx.buffer import Buffer
from pyzcrx.debug import BatchWatch, poison
from pyzcrx.errors import BadArgument, ClosedError, DoubleRelease
from pyzcrx.events import Event
from pyzcrx.receive import Request
from pyzcrx.ring import TOKEN_RECEIVE, TOKEN_SLOT_MASK, TOKEN_SLOT_SHIFT

if TYPE_CHECKING:
    from pyzcrx.loop import Ring

_SLOT = TOKEN_RECEIVE | TOKEN_SLOT_MASK


class Run(NamedTuple):
    """Neighbouring completions ``start`` to ``stop`` of a batch that belong to one request."""

    request: Request
    start: int
    stop: int
    size_bytes: int


class Batch:
    """The data completions of one turn, ``len(batch)`` of them, and its other events.

    ``offs`` (uint64, area token included) and ``lengths`` (uint32, bytes) are
    memoryviews in the order of arrival, in memory that the next turn overwrites:
    ``numpy.asarray(batch.offs)`` copies nothing. Entry *i* lies at
    ``offs[i] & uapi.OFFSET_MASK`` of its request's ``ifq.area.view``.

    What was neither taken as a Buffer nor released goes back to the kernel with
    the ring's next turn. In debug mode its bytes are overwritten then, and views of
    it that still live are warned of.
    """

    __slots__ = (
        "_n", "_open", "_ring", "_tokens", "_watch", "events", "lengths", "offs", "size_bytes",
    )  # fmt: skip

    def __init__(self, ring: Ring, events: list[Event]) -> None:
        """Use :meth:`pyzcrx.Ring.wait`."""
        columns = ring.columns
        n = columns.n_data
        self._ring = ring
        self._n = n
        self._open = True
        self._watch = BatchWatch() if ring.debug else None
        self._tokens = columns.tokens[:n]
        self.offs = columns.offs[:n]
        self.lengths = columns.lengths[:n]
        self.size_bytes = columns.n_bytes
        """Sum of the lengths."""
        self.events = events
        """What else happened; End, Limit and Failed come after the data of their request."""

    def __len__(self) -> int:
        return self._n

    def runs(self) -> Iterator[Run]:
        """The data by request, in order. A request may have several runs."""
        self._check_open()
        columns = self._ring.columns
        starts = columns.run_starts
        for i, receiver in enumerate(self._ring.receivers):
            yield Run(cast("Request", receiver), starts[i], starts[i + 1], columns.run_bytes[i])

    def view(self, request: Request, i: int) -> memoryview:
        """The bytes of entry *i*, which is of *request*: fast, and yours only until release."""
        self._check_mine(request, i)
        length = self.lengths[i]
        memory, at = request.ifq.locate(self.offs[i], length)
        if self._watch is not None:
            return self._watch.view(memory, at, length)
        return memoryview(memory)[at : at + length].toreadonly()

    def buffer(self, request: Request, i: int) -> Buffer:
        """Entry *i*, which is of *request*, as a lease that outlives the batch.

        Raises DoubleRelease where it was taken before.
        """
        self._check_mine(request, i)
        off = self.offs[i]
        if off == TAKEN:
            raise DoubleRelease(f"entry {i} of the batch was taken before")
        buffer = request.ifq.lease(off, self.lengths[i], request.token)
        self.offs[i] = TAKEN
        return buffer

    def release(self) -> None:
        """Give every entry back that was not taken as a Buffer.

        Raises DoubleRelease the second time, ClosedError after the next turn.
        """
        if not self._open:
            if self._ring.current_batch is not self:
                raise ClosedError("the batch ended with the ring's next turn")
            raise DoubleRelease("the batch was released before")
        if self._watch is not None:
            self._watch.released()
            self._poison()
        if self._n:
            # Told again after an interruption, it goes on where it was.
            for ifq in self._ring.ifqs:
                value = TOKEN_RECEIVE | ifq.slot << TOKEN_SLOT_SHIFT
                ifq.account.give_back(self.offs, self._tokens, _SLOT, value, self._ring.now_ns)
        self._open = False
        self._ring.columns.forget()

    def _poison(self) -> None:
        """Debug mode: make whoever still reads notice."""
        for i, off in enumerate(self.offs):
            if off != TAKEN:
                slot = (self._tokens[i] & TOKEN_SLOT_MASK) >> TOKEN_SLOT_SHIFT
                memory, at = self._ring.ifqs[slot].locate(off, self.lengths[i])
                poison(memory, at, self.lengths[i])

    def expire(self) -> None:
        """The next turn begins."""
        if self._open:
            self.release()

    def _check_mine(self, request: Request, i: int) -> None:
        self._check_open()
        if self._tokens[i] != request.token:
            raise BadArgument(f"entry {i} of the batch is of another request; see runs()")

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError("the batch was released, or ended with the ring's next turn")

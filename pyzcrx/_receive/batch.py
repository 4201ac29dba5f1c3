"""The batch fast path: what one turn brought, as columns.

Nothing is made per packet here. In exchange the promise is weaker than a
:class:`~pyzcrx._queue.buffer.Buffer`'s: a view taken from a batch does **not** keep its
bytes from being given back, and everything ends with the ring's next turn.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from pyzcrx import _lease
from pyzcrx._lease import Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.debug import BatchWatch, poison
from pyzcrx._receive.events import Event
from pyzcrx._receive.request import Request
from pyzcrx._ring.columns import TAKEN
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import BadArgument, ClosedError, DoubleRelease
from pyzcrx.uapi import OFFSET_MASK


class Run(NamedTuple):
    """Neighbouring completions ``start`` to ``stop`` of a batch that belong to one request."""

    request: Request
    """What the bytes are of."""
    start: int
    """The first entry."""
    stop: int
    """The entry behind the last."""
    size_bytes: int
    """Bytes of all entries."""
    batch: Batch
    """What it is a part of."""

    def views(self) -> list[memoryview]:
        """The bytes of each entry, as :meth:`Batch.view` gives them: yours only until release.

        Raises DoubleRelease where one was taken as a Buffer.
        """
        return self.batch._views(self)

    def buffers(self) -> list[Buffer]:
        """A Buffer for each entry that was not taken before; they outlive the batch.

        Raises ClosedError after its release, WrongThread.
        """
        return self.batch._take(self)


class Batch(_lease.Batch):
    """The data completions of one turn, ``len(batch)`` of them, and its other events.

    ``offs`` (uint64, area token included) and ``lengths`` (uint32, bytes) are
    memoryviews in the order of arrival, in memory that the next turn overwrites:
    ``numpy.asarray(batch.offs)`` copies nothing. Entry *i* lies at
    ``offs[i] & uapi.OFFSET_MASK`` of its request's ``ifq.area.view``.

    What was neither taken as a Buffer nor released goes back to the kernel with
    the ring's next turn. In debug mode its bytes are overwritten then, and views of
    it that still live are warned of.
    """

    __slots__ = ()
    _kind: type[Run] = Run
    _ring: RingCore
    _watch: BatchWatch | None
    events: list[Event]
    """Those of the turn, but for data."""

    def __init__(self, ring: RingCore, events: list[Event]) -> None:  # noqa: ARG002
        """Use :meth:`pyzcrx.Ring.wait`."""
        if ring.debug:
            self._watch = BatchWatch()

    @property
    def offs(self) -> memoryview:
        """Where each entry lies, uint64; writable, but not for you."""
        self._check_open()
        return self._ring.columns.offs[: self._n]

    @property
    def lengths(self) -> memoryview:
        """Bytes of each entry, uint32."""
        self._check_open()
        return self._ring.columns.lengths[: self._n]

    def _view(self, request: Request, i: int) -> memoryview:
        """What :meth:`view` gives where there is more to it than a slice."""
        columns = self._ring.columns
        if not self._open or not 0 <= i < self._n or columns.tokens[i] != request.token:
            self._check_mine(request, i)
        if self._watch is not None:
            off, length = columns.offs[i], columns.lengths[i]
            look = request._ifq.queue.look(off, length)
            return self._watch.view(cast(Span, look.obj), off & OFFSET_MASK, length)
        return request._ifq.queue.look(columns.offs[i], columns.lengths[i])

    def buffer(self, request: Request, i: int) -> Buffer:
        """Entry *i*, which is of *request*, as a lease that outlives the batch.

        Raises DoubleRelease where it was taken before, WrongThread.
        """
        self._ring.check_usable()
        self._check_mine(request, i)
        columns = self._ring.columns
        off = columns.offs[i]
        if off == TAKEN:
            raise DoubleRelease(f"entry {i} of the batch was taken before")
        buffer = request._ifq.lease(off, columns.lengths[i], request.token)
        columns.offs[i] = TAKEN
        return buffer

    def _take(self, run: Run) -> list[Buffer]:
        """What :meth:`Run.buffers` gives."""
        self._ring.check_usable()
        self._check_open()
        taken: list[Buffer] = []
        run.request._ifq.lease_run(taken, run.request, run.start, run.stop, bare=True)
        return taken

    def _release(self) -> None:
        """What release() does where there is more to it than giving back."""
        ring = self._ring
        ring.check_usable()
        if not self._open:
            if self._expired:
                raise ClosedError("the batch ended with the ring's next turn")
            raise DoubleRelease("the batch was released before")
        if self._watch is not None:
            self._watch.released()
            self._poison()
        columns = ring.columns
        if self._n:
            ring.give_back()
        self._open = False
        columns.forget()
        ring.looked_at = None

    def _poison(self) -> None:
        """Debug mode: overwrite the bytes, so that whoever still reads sees it."""
        columns = self._ring.columns
        for run in self.runs():
            for i in range(run.start, run.stop):
                off, length = columns.offs[i], columns.lengths[i]
                if off != TAKEN:
                    memory, at = run.request._ifq.queue.locate(off, length)
                    poison(memory, at, length)

    def _expire(self) -> None:
        """The next turn begins."""
        if self._open:
            self.release()
            self._expired = True

    def _die(self) -> None:
        """This is a forked child: :meth:`_check_open` says so."""
        self._open = False

    def _check_mine(self, request: Request, i: int) -> None:
        self._check_open()
        if i < 0 or i >= self._n:
            raise IndexError(f"the batch has {self._n} entries, no {i}")
        if self._ring.columns.tokens[i] != request.token:
            raise BadArgument(f"entry {i} of the batch is of another request; see runs()")

    def _check_open(self) -> None:
        self._ring.check_open()
        if not self._open:
            raise ClosedError("the batch was released, or ended with the ring's next turn")

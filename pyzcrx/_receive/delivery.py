"""What turns brought until the user has it: one owner, whether it is taken as events or batches.

Leaving a loop, or an interruption anywhere in it, loses nothing: the next call goes on from
there, in either form.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NoReturn

from pyzcrx._lease import Batches, ChunkFeed, Feed, Queue
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.chunk import Chunk
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.debug import report_leaks
from pyzcrx._receive.events import Accepted, Data, Event
from pyzcrx._receive.inboxes import Inboxes
from pyzcrx._receive.request import Attachment, Request
from pyzcrx._ring.columns import COUNTED, FRESH, TAKEN
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.tokens import TOKEN_IFQ_MASK, TOKEN_IFQ_SHIFT
from pyzcrx.errors import CorruptRing


class _Deadline:
    """A wait of so many ns from now; -1: for ever."""

    __slots__ = ("_at_ns",)

    def __init__(self, wait_ns: int) -> None:
        self._at_ns = time.monotonic_ns() + wait_ns if wait_ns >= 0 else None

    def left_ns(self) -> int:
        return -1 if self._at_ns is None else max(0, self._at_ns - time.monotonic_ns())

    @property
    def passed(self) -> bool:
        return self._at_ns is not None and time.monotonic_ns() >= self._at_ns


class Delivery:
    """Turns *core* when it has nothing left. Owner thread only."""

    def __init__(self, core: RingCore, ifqs: Sequence[Attachment]) -> None:
        self.core = core
        self._ifqs = ifqs
        self._fresh: list[Event] = []
        """Made of the last turn's data, and not handed on yet."""
        self._undelivered = Queue()
        """Events that :meth:`events` gives next."""
        self.watchers: list[Callable[[], None]] = []
        """Called once, before the ring is closed."""
        self.attached: object = None
        """What takes the turns for an event loop."""
        self.inboxes = Inboxes(core)
        """Those requests whose data and events are for streams."""
        core.unrest.append(self.inboxes.to_end)
        self.traffic: object = None
        """The ring's sends."""

    @property
    def _unseen(self) -> Batch | None:
        """A batch that was drained and not handed on."""
        batch = self.core.looked_at
        return batch if isinstance(batch, Batch) and not batch._seen else None

    # -- events -----------------------------------------------------------------

    def events(self, wait_ns: int) -> Iterator[Event]:
        """Until no request is in flight, or *wait_ns* (-1: for ever) bring none."""
        queue, more = self._undelivered, partial(self._find, wait_ns)
        if wait_ns < 0:
            return Feed(queue, more, self.core, (self.inboxes.ever,))
        return Feed(queue, more)

    def _find(self, wait_ns: int) -> bool:
        """Whether :meth:`events` goes on: there are some now."""
        core, queue = self.core, self._undelivered
        core.check_usable()
        if queue:
            self._give_back_copied()
            return True
        deadline = _Deadline(wait_ns)
        while not queue:
            if not self.busy:
                if core.watched:
                    self.collect(0)  # or the descriptor would stay readable for nothing
                return bool(queue)
            self.collect(deadline.left_ns())
            if deadline.passed and not queue:
                return False
        return True

    @property
    def busy(self) -> bool:
        """Whether anything can still happen, but for streams: they take turns of their own."""
        core = self.core
        if core.posted or self._undelivered or core.columns.counts[FRESH]:
            return True
        return self.inboxes.abandoned or core.in_flight > self.inboxes.in_flight

    @property
    def _half_handed(self) -> bool:
        """Whether the columns have what :meth:`events` began to hand on: it all becomes events."""
        return self.core._leased > 0 and self.core.columns.counts[FRESH] == COUNTED

    def _reopen(self) -> None:
        """A batch that nobody saw is taken back, to be handed on as events."""
        unseen = self._unseen
        if unseen is not None:
            core = self.core
            events = [*unseen.events, *core.posted]
            core.looked_at = None
            core.posted = events
            core.columns.counts[FRESH] = COUNTED

    def collect(self, wait_ns: int) -> None:
        """One turn: what it brought is in the inboxes of streams, or waits for :meth:`events`."""
        if not self.collect_quietly(wait_ns):
            self.collect_on(wait_ns)

    def collect_quietly(self, wait_ns: int) -> bool:
        """As :meth:`collect`, in C; False where :meth:`collect_on` must take it, or end it."""
        core = self.core
        if core.looked_at is not None:
            return False
        try:
            done = core.collect_quietly(wait_ns, self._undelivered, self.inboxes.changed)
            if done > 1:
                self.relieve()
        except BaseException:
            core.want_turn()
            raise
        return done > 0

    def collect_on(self, wait_ns: int) -> None:
        """What :meth:`collect_quietly` left of a turn, decisions included."""
        try:
            self._collect(wait_ns)
        except BaseException:
            self.core.want_turn()
            raise

    def _collect(self, wait_ns: int) -> None:
        core = self.core
        self._reopen()
        core.turn(wait_ns, taken=True)
        if not core.lease_runs(self._fresh):
            self._raise_misplaced()
        if self.inboxes or (core.posted and self.inboxes.ever):
            self._fill_inboxes()
        self._give_back_copied()
        if core.watched and (self._fresh or core.posted):
            core.want_turn()  # whoever takes events may leave some
        # From here on nothing is called that a signal handler could raise in.
        self._undelivered += self._fresh
        self._undelivered += core.posted
        self._fresh = []
        core.posted = []
        core.columns.counts[FRESH] = 0

    def chunks(self, request: Request, inbox: Chunks, more: Callable[[], Chunk]) -> Iterator[Chunk]:
        """What comes for *inbox*, that of *request*, chunk by chunk; *more* gives the next one and
        takes the turns that want decisions, and raises StopIteration at the end.
        """
        return ChunkFeed(self.core, request, inbox, Chunk, self._undelivered, more)

    def relieve(self) -> None:
        """A turn went into inboxes without :meth:`collect`: let none have too much."""
        if self.core.columns.counts[FRESH]:
            return  # an interrupted one: its events come after its data
        for ifq in self._ifqs if self.inboxes else ():
            if ifq.account.leased > ifq.account.crowded_above:  # no inbox has more than are out
                self._fill_inboxes()
                break
        self._give_back_copied()

    def _raise_misplaced(self) -> NoReturn:
        """Some entry names no place in its area: say which."""
        columns = self.core.columns
        for i in range(columns.n_data):
            if columns.offs[i] != TAKEN:
                slot = (columns.tokens[i] & TOKEN_IFQ_MASK) >> TOKEN_IFQ_SHIFT
                self._ifqs[slot].queue.locate(columns.offs[i], columns.lengths[i])
        raise CorruptRing("a completion names a place that cannot be leased")

    def _give_back_copied(self) -> None:
        """What was copied is the kernel's again before the user takes his time over the rest."""
        for ifq in self._ifqs:
            if ifq.account.count:
                ifq.give_back()

    def make_way(self, ifq: Attachment, area_bytes: int) -> bool:
        """Before a turn: see :meth:`Inboxes.make_way`.

        Not after one that was interrupted: what that brought comes first.
        """
        core = self.core
        if self._fresh or core.posted or core.columns.counts[FRESH]:
            return False
        return self.inboxes.make_way(ifq, area_bytes)

    def _fill_inboxes(self) -> None:
        core, inboxes = self.core, self.inboxes
        inboxes.sort(core.posted, self._fresh)
        inboxes.relieve(core.receivers)
        for ifq in self._ifqs:
            if ifq.crowded:
                inboxes.spill(ifq)

    # -- batches ----------------------------------------------------------------

    def wait(self, wait_ns: int) -> Batch:
        """The batch of one turn, or of what :meth:`events` left behind."""
        batch = self._wait(wait_ns)
        batch._seen = True
        return batch

    def _wait(self, wait_ns: int) -> Batch:
        core = self.core
        core.check_usable()
        unseen = self._unseen
        if unseen is not None:
            return unseen
        if (self.inboxes and not self._undelivered) or self._half_handed:
            self.collect(wait_ns)
        if self.inboxes or self._undelivered:
            # What events() left behind comes first, as the events it was made into.
            core.end_look()
            core.columns.forget()
            core.receivers.clear()
            batch = Batch(core, list(self._undelivered))
            core.looked_at = batch
            self._undelivered.clear()
        else:
            core.turn(wait_ns)
            batch = Batch(core, core.posted)
            core.looked_at = batch
            core.posted = []
            core.columns.counts[FRESH] = 0
        return batch

    def batches(self, wait_ns: int) -> Iterator[Batch]:
        """:meth:`wait` until no request is in flight; empty batches are left out."""
        more = partial(self._next, wait_ns)
        if wait_ns < 0:
            pending = (self._undelivered, self.inboxes.ever)
            return Batches(self.core, Batch, pending, more)
        return iter(more, None)

    def _next(self, wait_ns: int) -> Batch | None:
        """The next batch that has something; None at the end, or where *wait_ns* bring none."""
        core = self.core
        core.check_usable()
        if core.looked_at is not None and self._unseen is None:
            core.end_look()
        deadline = _Deadline(wait_ns)
        while self.busy or self._unseen is not None:
            batch = self._wait(deadline.left_ns())
            batch._seen = True
            if batch.size_bytes or batch.events:
                return batch
            if deadline.passed:
                break
        return None

    @property
    def waiting(self) -> bool:
        """Whether :meth:`events` would give one without a turn."""
        return len(self._undelivered) > 0 or self._half_handed

    # -- the end ----------------------------------------------------------------

    def end_look(self) -> None:
        """The last batch ends; the events of one that nobody saw wait for :meth:`close`."""
        core, unseen = self.core, self._unseen
        if unseen is not None:
            events = [*unseen.events, *core.posted]
            unseen.events = []
            core.posted = events
        core.end_look()

    def closing(self) -> None:
        """The ring is about to be closed: tell those that watch it."""
        while self.watchers:
            self.watchers.pop()()

    def report_leaks(self) -> None:
        """Warn of the buffers that the user has, where debug mode knows their lines."""
        own = {id(e.buffer) for e in (*self._undelivered, *self._fresh) if isinstance(e, Data)}
        for ifq in self._ifqs:
            report_leaks(ifq.account, own)

    def close(self) -> None:
        """The ring was closed. Connections accepted and not yet told of are closed."""
        core = self.core
        self.inboxes.close()
        unseen = self._unseen
        events = unseen.events if unseen is not None else ()
        for event in (*self._undelivered, *self._fresh, *core.posted, *events):
            if isinstance(event, Accepted):
                os.close(event.fd)
        self._undelivered.shut()
        self._undelivered.clear()
        self._fresh.clear()
        core.posted.clear()

    def die(self) -> None:
        """This is a forked child: hand nothing on."""
        self._undelivered.shut()

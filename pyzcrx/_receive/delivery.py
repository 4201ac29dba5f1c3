"""What turns brought until the user has it: one owner, whether it is taken as events or batches.

Leaving a loop, or an interruption anywhere in it, loses nothing: the next call goes on from
there, in either form.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from pyzcrx._lease import Feed, Queue
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.debug import report_leaks
from pyzcrx._receive.events import Accepted, Data, Event
from pyzcrx._receive.request import Attachment, Request
from pyzcrx._ring.columns import COUNTED, FRESH
from pyzcrx._ring.core import RingCore


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
        self._core = core
        self._ifqs = ifqs
        self._fresh: list[Event] = []
        """Made of the last turn's data, and not handed on yet."""
        self._undelivered = Queue()
        """Events that :meth:`events` gives next."""
        self._unseen: Batch | None = None
        """A batch that was drained and not handed on."""

    # -- events -----------------------------------------------------------------

    def events(self, wait_ns: int) -> Iterator[Event]:
        """Until no request is in flight, or *wait_ns* (-1: for ever) bring none."""
        return Feed(self._undelivered, partial(self._find, wait_ns))

    def _find(self, wait_ns: int) -> bool:
        """Whether :meth:`events` goes on: there are some now."""
        core, queue = self._core, self._undelivered
        core.check_usable()
        deadline = _Deadline(wait_ns)
        while not queue:
            if not self._busy:
                if core.watched:
                    self._collect(0)  # or the descriptor would stay readable for nothing
                return bool(queue)
            self._collect(deadline.left_ns())
            if deadline.passed and not queue:
                return False
        return True

    @property
    def _busy(self) -> bool:
        """Whether anything can still happen."""
        core = self._core
        return bool(
            core.armed
            or core.posted
            or self._undelivered
            or core.columns.counts[FRESH]
            or core.in_flight
        )

    def _reopen(self) -> None:
        """A batch that nobody saw is taken back, to be handed on as events."""
        if self._unseen is not None:
            core = self._core
            events = [*self._unseen.events, *core.posted]
            core.looked_at = self._unseen = None
            core.posted = events
            core.columns.counts[FRESH] = COUNTED

    def _collect(self, wait_ns: int) -> None:
        self._reopen()
        core = self._core
        core.turn(wait_ns)
        starts = core.columns.run_starts
        for i, receiver in enumerate(core.receivers):
            request = cast("Request", receiver)
            request.ifq.lease_run(self._fresh, request, starts[i], starts[i + 1])
        for ifq in self._ifqs:
            if ifq.account.count:
                ifq.give_back()  # what was copied, before the user takes his time over the rest
        # From here on nothing is called that a signal handler could raise in.
        self._undelivered += self._fresh
        self._undelivered += core.posted
        self._fresh = []
        core.posted = []
        core.columns.counts[FRESH] = 0

    # -- batches ----------------------------------------------------------------

    def wait(self, wait_ns: int) -> Batch:
        """The batch of one turn, or of what :meth:`events` left behind."""
        batch = self._wait(wait_ns)
        self._unseen = None
        return batch

    def _wait(self, wait_ns: int) -> Batch:
        core = self._core
        core.check_usable()
        if self._unseen is not None:
            return self._unseen
        if self._undelivered:
            # What events() left behind comes first, as the events it was made into.
            core.end_look()
            core.columns.forget()
            core.receivers = []
            batch = Batch(core, list(self._undelivered))
            core.looked_at = self._unseen = batch
            self._undelivered.clear()
        else:
            core.turn(wait_ns)
            batch = Batch(core, core.posted)
            core.looked_at = self._unseen = batch
            core.posted = []
            core.columns.counts[FRESH] = 0
        return batch

    def batches(self, wait_ns: int) -> Iterator[Batch]:
        """:meth:`wait` until no request is in flight; empty batches are left out."""
        core = self._core
        deadline = _Deadline(wait_ns)
        while core.armed or self._busy or self._unseen is not None:
            batch = self._wait(deadline.left_ns() if wait_ns >= 0 else -1)
            self._unseen = None
            if batch.size_bytes or batch.events:
                yield batch
                core.check_usable()
                if core.looked_at is not None:
                    core.end_look()
                if wait_ns >= 0:
                    deadline = _Deadline(wait_ns)
            elif deadline.passed:
                return

    # -- the end ----------------------------------------------------------------

    def report_leaks(self) -> None:
        """Warn of the buffers that the user has, where debug mode knows their lines."""
        own = {id(e.buffer) for e in (*self._undelivered, *self._fresh) if isinstance(e, Data)}
        for ifq in self._ifqs:
            report_leaks(ifq.account, own)

    def close(self) -> None:
        """The ring was closed. Connections accepted and not yet told of are closed."""
        core = self._core
        unseen = self._unseen.events if self._unseen is not None else ()
        for event in (*self._undelivered, *self._fresh, *core.posted, *unseen):
            if isinstance(event, Accepted):
                os.close(event.fd)
        self._undelivered.shut()
        self._undelivered.clear()
        self._fresh.clear()
        core.posted.clear()
        self._unseen = None

    def die(self) -> None:
        """This is a forked child: hand nothing on."""
        self._undelivered.shut()

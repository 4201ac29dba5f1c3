"""One io_uring: its memory, its owner thread, its requests.

zcrx asks for SINGLE_ISSUER and DEFER_TASKRUN: one thread owns the ring, and
completions appear only while that thread enters it. The rings lie in memory of
ours (IORING_SETUP_NO_MMAP): a mapping of the ring's file, kept after close,
would keep the rx queue bound for ever.

A request is known by its *token*, the ``user_data`` of its SQE and of every
CQE: bit 63 marks a RECV_ZC, the next 15 bits its ifq, the rest counts up and is
never used twice.

A turn can be interrupted (KeyboardInterrupt, any signal handler that raises) and
must lose nothing by it. Python runs handlers when a function begins, after a C
function returns, and when a loop goes round, never between plain stores. So what was
drained stays in the columns, which say so themselves (``fresh``), until it was
handed on; it is counted in one call; each other step can be told twice and counts once; and
what marks a step as done stands beside its effect, with no call in between. The next turn
goes on from there before it enters the kernel.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
import weakref
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from pyzcrx import fork
from pyzcrx._ffi import check, ffi, lib
from pyzcrx._lease import Account, Receiver, take
from pyzcrx.columns import FRESH, Columns
from pyzcrx.errors import BadArgument, ClosedError, CorruptRing, ForkedChild, WrongThread
from pyzcrx.memory import Mapping
from pyzcrx.pace import MOST_US, Pace
from pyzcrx.poll import Poll
from pyzcrx.uapi import CQ_WORDS, CqeFlag, Setup

if TYPE_CHECKING:
    from pyzcrx.events import Event

TOKEN_RECEIVE = 1 << 63
TOKEN_SLOT_SHIFT = 48
TOKEN_SLOT_MASK = 0x7FFF << TOKEN_SLOT_SHIFT
_SERIAL_MASK = (1 << TOKEN_SLOT_SHIFT) - 1

MAX_ENTRIES = 32768
"""The largest SQ; a CQ may have twice that (io_uring/io_uring.h, IORING_MAX_ENTRIES)."""

MAX_GATHER_US = 1_000_000

_FLAGS = Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.CQE32 | Setup.SUBMIT_ALL
_CLOSE_PATIENCE_NS = 2_000_000_000
_SIGNAL_PATIENCE_NS = 1_000_000_000
"""A signal in the moment before the kernel is entered ends no wait: look again so often."""


class Operation(Protocol):
    """A request in flight: turns its completions, but for data, into events."""

    def complete(self, res: int, flags: int) -> Event | None:
        """One CQE; the last of the request when *flags* lacks F_MORE."""

    def drop(self, res: int) -> None:
        """One CQE that nobody will be told of: the ring is closing."""


class Expiring(Protocol):
    """Looks at the columns of the last turn."""

    def expire(self) -> None:
        """The next turn begins."""


class Child(Protocol):
    """An ifq, as its ring sees it; the first has slot 0."""

    account: Account

    @property
    def parked(self) -> int:
        """Requests of its that wait to be armed again."""

    def settle(self) -> int:
        """Give buffers back and arm what can go on; before each turn.

        Gives how long the turn may wait at most, in ns; -1: as long as it likes.
        """

    def abandon(self) -> None:
        """Nothing is in flight on the ring and the caller would wait for ever: post
        the failure of what can only go on if somebody releases buffers."""

    def closed_by_ring(self) -> None:
        """The ring is about to go."""


def _dropped(ring_fd: int, others: list[int]) -> None:
    warnings.warn("a Ring was dropped without close()", ResourceWarning, stacklevel=2)
    for fd in (ring_fd, *others):
        os.close(fd)


def _drain(pipe_fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(pipe_fd, 512):
            pass


class RingCore:
    """The ring without a policy; :class:`pyzcrx.Ring` is what users hold.

    Belongs to the thread that makes it; any other gets WrongThread, a forked
    child ForkedChild, everybody after :meth:`close` ClosedError.
    """

    def __init__(
        self,
        *,
        sq_entries: int = 256,
        cq_entries: int = 4096,
        gather_us: int = MOST_US,
        debug: bool = False,
    ) -> None:
        self.debug = debug
        for name, n, most in (
            ("sq_entries", sq_entries, MAX_ENTRIES),
            ("cq_entries", cq_entries, 2 * MAX_ENTRIES),
        ):
            if not 1 <= n <= most:
                raise BadArgument(f"{name} {n} is not between 1 and {most}")
        if not 0 <= gather_us <= MAX_GATHER_US:
            raise BadArgument(f"gather_us {gather_us} is not between 0 and {MAX_GATHER_US}")
        if cq_entries < sq_entries:
            sq_entries = cq_entries
        self._owner = get_ident()
        self._state: type[ClosedError | ForkedChild] | None = ClosedError
        size_bytes = lib.pz_ring_bytes(sq_entries, cq_entries)
        self._mapping = Mapping.anonymous(size_bytes)
        self.raw = ffi.gc(lib.pz_ring_new(), lib.pz_ring_free)
        check(
            lib.pz_ring_init(
                self.raw, sq_entries, cq_entries, _FLAGS, self._mapping.address, size_bytes
            ),
            "ring set-up",
        )
        self._state = None
        self._cq = ffi.new("struct pz_cq *")
        lib.pz_ring_cq(self.raw, self._cq)
        self.columns = Columns(min(int(self._cq.entries), 4096))
        self.pace = Pace(gather_us if lib.pz_ring_gathers(self.raw) else 0, int(self._cq.entries))
        self._serial = 0
        self._operations: dict[int, Operation] = {}
        self.looked_at: Expiring | None = None
        """Who still looks at the columns."""
        self._own: dict[int, Operation] = {}
        self._others_done = 0
        self._finishing: Operation | None = None
        self._children: list[Child] = []
        self.accounts: list[Account] = []
        """Of the children, by slot."""
        self._posted: list[Event] = []
        self._wakeup: list[int] = []
        """Both ends of the pipe, once somebody asked for it."""
        self.receivers: list[Receiver] = []
        """Whose each run of the last turn is."""
        self.overflowed = False
        """Whether completions wait on the kernel's overflow list."""
        self.now_ns = time.monotonic_ns()
        """The clock, read once a turn."""
        # A finaliser only warns, and frees what would keep an rx queue bound.
        self._finalizer = weakref.finalize(
            self, _dropped, int(lib.pz_ring_fd(self.raw)), self._wakeup
        )
        self._finalizer.atexit = False
        fork.guard(self, RingCore._die_in_child)

    # -- state ------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise unless the calling thread may use the ring now."""
        if self._state is not None:
            what = "belongs to the parent process" if self._state is ForkedChild else "was closed"
            raise self._state(f"the ring {what}")
        if get_ident() != self._owner:
            raise WrongThread("the ring belongs to the thread that made it; make one ring a thread")

    @property
    def closed(self) -> bool:
        """Whether it was closed, here or by a fork."""
        return self._state is not None

    def fileno(self) -> int:
        """The ring's descriptor: polls readable when a turn would bring something."""
        if self._state is not None:
            self.check_usable()
        return int(lib.pz_ring_fd(self.raw))

    def _die_in_child(self) -> None:
        if self._state is None:
            self._state = ForkedChild
            self._finalizer.detach()
            os.close(lib.pz_ring_fd(self.raw))
            for fd in self._wakeup:
                os.close(fd)

    # -- the completion queue ----------------------------------------------

    @property
    def cq_view(self) -> memoryview:
        """The CQEs, read-only, as :mod:`pyzcrx.uapi` describes.

        The kernel writes it while you look. Stays readable after close.
        """
        return self._mapping.words(int(self._cq.cqes), int(self._cq.entries), CQ_WORDS)

    @property
    def cq_head(self) -> int:
        """How many CQEs were consumed, modulo 2**32."""
        return int(ffi.cast("uint32_t *", self._cq.head)[0])

    @property
    def cq_tail(self) -> int:
        """How many CQEs the kernel posted, modulo 2**32."""
        return int(ffi.cast("uint32_t *", self._cq.tail)[0])

    # -- requests -----------------------------------------------------------

    def new_token(self, *, slot: int | None = None) -> int:
        """A token never used before; with *slot* it is a RECV_ZC on the ifq in that slot."""
        self._serial = (self._serial + 1) & _SERIAL_MASK
        if slot is None:
            return self._serial
        return TOKEN_RECEIVE | slot << TOKEN_SLOT_SHIFT | self._serial

    def submit(self, operation: Operation, token: int, result: int, name: str) -> None:
        """*operation* was prepared under *token*, with *result* from the shim."""
        check(result, name)
        self._operations[token] = operation

    def operation(self, token: int) -> Operation | None:
        return self._operations.get(token)

    def watch(self, operation: Operation, token: int) -> None:
        """Completions of *token* are for *operation*, which nobody waits for."""
        self._own[token] = operation

    def forget(self, token: int) -> None:
        """The watched *token* was completed for the last time."""
        del self._own[token]

    def operations(self) -> list[Operation]:
        """The requests that the kernel holds, but for the ring's own."""
        return list(self._operations.values())

    @property
    def armed(self) -> int:
        """Requests that the kernel holds, but for the ring's own."""
        return len(self._operations)

    @property
    def lends(self) -> bool:
        """Whether an operation in flight has buffers of the user's: a send."""
        return any(getattr(each, "buffers", ()) for each in self._operations.values())

    @property
    def in_flight(self) -> int:
        """Requests that are not over: armed, or waiting to be armed again."""
        return self.armed + sum(child.parked for child in self._children)

    def cancel(self, token: int) -> None:
        """Ask the kernel to end a request; its last completion says how that went."""
        self.check_usable()
        check(lib.pz_prep_cancel(self.raw, token, 0, 0), "cancel")

    def add_child(self, child: Child) -> None:
        """Settle *child* before every turn, close it before the ring."""
        self._children.append(child)
        self.accounts.append(child.account)

    def post(self, event: Event) -> None:
        """Have the next turn report *event*."""
        self._posted.append(event)

    # -- turning ------------------------------------------------------------

    def turn(self, timeout_ns: int) -> None:
        """Settle, submit, wait (-1: for ever, 0: not), drain.

        Data is in :attr:`columns`, all else in what :meth:`post` gathers; whoever has
        taken both clears ``columns.counts[FRESH]``. Brings nothing when a signal came.
        """
        if self._state is not None or get_ident() != self._owner:
            self.check_usable()
        if not self.columns.counts[FRESH]:
            self._enter(timeout_ns)
        self._process()

    def finish_turn(self) -> None:
        """Deal with what an interrupted turn drained."""
        self.check_usable()
        if self.columns.counts[FRESH]:
            self._process()

    def end_look(self) -> None:
        """Nobody looks at the columns any more."""
        if self.looked_at is not None:
            self.looked_at.expire()
            self.looked_at = None

    def _enter(self, timeout_ns: int) -> None:
        if self.looked_at is not None:
            self.end_look()
        for_ever = timeout_ns < 0
        for child in self._children:
            patience = child.settle()
            if patience >= 0 and not 0 <= timeout_ns <= patience:
                timeout_ns = patience
        if for_ever and not self._operations and not self._posted:
            for child in self._children:
                child.abandon()
        if self._posted:
            timeout_ns = 0
        elif timeout_ns < 0:
            timeout_ns = _SIGNAL_PATIENCE_NS
        pace = self.pace
        gather_us = pace.us
        if 0 <= timeout_ns < 1000 * gather_us:
            gather_us = 0
        self._others_done = 0
        n = lib.pz_ring_turn(self.raw, timeout_ns, pace.enough, gather_us, self.columns.raw)
        if n < 0 and n != -errno.EINTR:  # Python runs the handlers once we are back
            self.columns.counts[FRESH] = 0
            check(n, "io_uring_enter")

    def _process(self) -> None:
        """What was drained, from wherever an interrupted turn got to."""
        columns = self.columns
        columns.refresh()
        self.now_ns = columns.now_ns
        self.overflowed = columns.overflow != 0
        self.pace.brought(columns.n_data, columns.n_bytes)
        # Data first: a request's last completion may be of the same turn.
        if not take(columns.address, self._operations, self.accounts, self.receivers):
            raise CorruptRing("a completion carries data for a request that does not exist")
        while self._others_done < columns.n_other:
            self._complete(*columns.other(self._others_done))

    def _complete(self, token: int, res: int, flags: int) -> None:
        """One completion. Told again from the start if interrupted."""
        operation = self._finishing
        if operation is None:
            operation = self._operations.get(token)
            if operation is not None and not flags & CqeFlag.MORE:
                self._finishing = operation
                del self._operations[token]
        if operation is None:
            operation = self._own.get(token)
        event = operation.complete(res, flags) if operation is not None else None
        if event is not None:
            self._posted += (event,)
        self._finishing = None
        self._others_done += 1

    # -- waking -------------------------------------------------------------

    @property
    def wakeup_fd(self) -> int:
        """A descriptor; a byte written to it ends the owner's wait.

        Fit for :func:`signal.set_wakeup_fd`. Made on first use, by the owner.
        """
        if not self._wakeup:
            self.check_usable()
            self._wakeup += os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            Poll(self, self._wakeup[0], partial(_drain, self._wakeup[0]))
        return self._wakeup[1]

    def wake(self) -> None:
        """End the owner's :meth:`wait`, from any thread, with an empty batch.

        The owner must have asked for wakeup_fd before. :meth:`events` and
        :meth:`batches` take a turn and go on.
        """
        if self._wakeup and self._state is None:
            with suppress(BlockingIOError):
                os.write(self._wakeup[1], b"\0")

    # -- the end ------------------------------------------------------------

    def close(self) -> None:
        """Cancel every request, close the children, then the ring. Idempotent.

        Views of its memory stay readable. The kernel gives a bound rx queue
        back a moment later, by itself.
        """
        if self._state is not None:
            return
        self.check_usable()
        try:
            self._cancel_all()
        finally:  # also when a signal ends the wait for it
            self._close_now()

    def _close_now(self) -> None:
        for child in self._children:
            child.closed_by_ring()
        self._children.clear()
        self._operations.clear()
        self._state = ClosedError
        self._finalizer.detach()
        lib.pz_ring_exit(self.raw)
        self._mapping.close()
        for fd in self._wakeup:
            os.close(fd)
        self._wakeup.clear()

    def _cancel_all(self) -> None:
        """End what is in flight, so that nothing the kernel still does touches our memory."""
        if self.columns.counts[FRESH]:  # an interrupted turn
            self._drop(self._others_done)
        if not self._operations:
            return
        check(lib.pz_prep_cancel(self.raw, 0, 1, 0), "cancel")
        until = time.monotonic_ns() + _CLOSE_PATIENCE_NS
        while self._operations and (left := until - time.monotonic_ns()) > 0:
            n = lib.pz_ring_turn(self.raw, left, 0, 0, self.columns.raw)
            if n < 0 and n != -errno.EINTR:
                break
            self._drop(0)

    def _drop(self, start: int) -> None:
        for i in range(start, self.columns.raw.n_other):
            token, res, flags = self.columns.other(i)
            if (operation := self._operations.get(token)) is not None:
                operation.drop(res)
            if not flags & CqeFlag.MORE:
                self._operations.pop(token, None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self.fileno()}, {self.in_flight} in flight"
        return f"<{type(self).__name__} {state}>"

"""One io_uring: its memory, its owner thread, its requests.

zcrx asks for SINGLE_ISSUER and DEFER_TASKRUN: one thread owns the ring, and
completions appear only while that thread enters it. The rings lie in memory of
ours (IORING_SETUP_NO_MMAP): a mapping of the ring's file, kept after close,
would keep the rx queue bound for ever.

A request is known by its *token* (:mod:`pyzcrx._ring.tokens`).

A turn that brings nothing but data, while nothing runs low, is one call of C
(csrc/quiet.c). All else is decided here.

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

from pyzcrx._common.checked import integer
from pyzcrx._kernel import fork
from pyzcrx._kernel._ffi import FUNCTIONS, check, ffi, lib
from pyzcrx._lease import Core
from pyzcrx._ring.columns import FRESH, Columns
from pyzcrx._ring.ending import Ending
from pyzcrx._ring.pace import MOST_US, Pace
from pyzcrx._ring.readiness import Readiness
from pyzcrx._ring.rings import CompletionQueue, checked_entries, close_if_dropped, set_up
from pyzcrx._ring.roles import NEVER, Child, Operation, Watcher
from pyzcrx._ring.tokens import Serials
from pyzcrx._ring.wakeup import Wakeup
from pyzcrx.errors import ClosedError, CorruptRing, ForkedChild, WrongThread

MAX_GATHER_US = 1_000_000

_SIGNAL_TIMEOUT_NS = int(lib.PZ_SIGNAL_TIMEOUT_NS)
_MOST_NS = (1 << 63) - 1


class RingCore(Core):
    """One io_uring; :class:`pyzcrx.Ring`, which users hold, is made of it.

    Belongs to the thread that makes it; any other gets WrongThread, a forked
    child ForkedChild, everybody after :meth:`close` ClosedError.
    """

    _state: type[ClosedError | ForkedChild] | None = ClosedError
    """What its use raises; None: it is open."""

    def __init__(
        self,
        *,
        sq_entries: int = 256,
        cq_entries: int = 4096,
        gather_us: int = MOST_US,
        debug: bool = False,
    ) -> None:
        self.debug = debug
        sq_entries, cq_entries = checked_entries(sq_entries, cq_entries)
        gather_us = integer("gather_us", gather_us, 0, MAX_GATHER_US)
        self.raw = ffi.from_buffer("struct pz_ring *", self.shared)
        self._mapping = set_up(self.raw, sq_entries, cq_entries)
        self._state = None
        self.cq = CompletionQueue(self.raw, self._mapping)
        self.columns = Columns(min(self.cq.entries, 4096))
        self.pace = Pace(gather_us if lib.pz_ring_gathers(self.raw) else 0, self.cq.entries)
        self.use(
            self.columns.turn,
            self.pace,
            vars(lib),
            FUNCTIONS,
            self.raw,
            self.columns.raw,
        )
        self.new_token = Serials().next
        """A token never used before, of anything but a RECV_ZC."""
        self.ending = Ending(self.raw, self.columns, self._operations)
        self._children: list[Child] = []
        self._readiness: Readiness | None = None
        """Once somebody asked for the descriptor."""
        self._turning = False
        self._wakeup: Wakeup | None = None
        """Once somebody asked for it."""
        self.columns.now_ns = time.monotonic_ns()
        self.quiet = not debug
        self._finalizer = close_if_dropped(self, int(lib.pz_ring_fd(self.raw)))
        fork.guard(self, type(self)._die_in_child)

    # -- state ------------------------------------------------------------

    def check_open(self) -> None:
        """Raise where the ring was closed, or is the parent's of this forked process."""
        if self._state is not None:
            what = "belongs to the parent process" if self._state is ForkedChild else "was closed"
            raise self._state(f"the ring {what}")

    def check_usable(self) -> None:
        """Raise unless the calling thread may use the ring now."""
        if self._state is not None:
            self.check_open()
        if not self.owned:
            raise WrongThread("the ring belongs to the thread that made it; make one ring a thread")

    @property
    def closed(self) -> bool:
        """Whether it was closed, here or by a fork."""
        return self._state is not None

    @property
    def ring_fd(self) -> int:
        """The descriptor of the io_uring itself."""
        self.check_open()
        return int(lib.pz_ring_fd(self.raw))

    @property
    def watched(self) -> bool:
        """Whether somebody asked for :meth:`fileno`."""
        return self._readiness is not None

    def fileno(self) -> int:
        """Readable while a turn would bring or change something: see :meth:`pyzcrx.Ring.fileno`."""
        if self._readiness is None:
            self.check_usable()
            readiness = Readiness(self.raw)
            for account in self.accounts:
                account.signal = readiness.signal
            self._readiness = readiness
            self.quiet = False
            self._submit_now()
        if self._state is not None:
            self.check_usable()
        return self._readiness.fileno()

    def _submit_now(self) -> None:
        """Somebody watches the ring, who takes a turn only once something has happened."""
        if self._readiness is not None and not self._turning and lib.pz_ring_submit(self.raw):
            self._readiness.set()  # it may go with the next turn

    def _die_in_child(self) -> None:
        if self._state is None:
            self.quiet = False
            self._state = ForkedChild
            self._finalizer.detach()
            for child in self._children:
                child.die()
            if self.looked_at is not None:
                self.looked_at._die()
            os.close(lib.pz_ring_fd(self.raw))
            self._wakeup = None

    # -- requests -----------------------------------------------------------

    def submit(self, operation: Operation, token: int, result: int, name: str) -> None:
        """*operation* was prepared under *token*, with *result* from the shim."""
        if result < 0:
            check(result, name)
        self.set_armed(operation, True)
        self._operations[token] = operation
        if self._readiness is not None:
            self._submit_now()

    def operation(self, token: int) -> Operation | None:
        return self._operations.get(token)

    def watch(self, operation: Watcher, token: int) -> None:
        """Completions of *token* are for *operation*, which nobody waits for."""
        self._own[token] = operation
        self._submit_now()

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
        self._submit_now()

    def add_child(self, child: Child) -> None:
        """Settle *child* before every turn, close it before the ring."""
        self._children.append(child)
        self.accounts.append(child.account)
        self.unrest.extend(child.unrest)
        if self._readiness is not None:
            child.account.signal = self._readiness.signal

    def post(self, event: object) -> None:
        """Have the next turn report *event*."""
        self.posted.append(event)

    # -- turning ------------------------------------------------------------

    def turn(self, timeout_ns: int, *, taken: bool = False) -> None:
        """Settle, submit, wait (-1: for ever, 0: not), drain.

        Data is in :attr:`columns`, all else in what :meth:`post` gathers; whoever has
        taken both clears ``columns.counts[FRESH]``. Brings nothing when a signal came.

        taken: the caller takes both at once; where he leaves something, or is interrupted, he
        calls :meth:`want_turn`. Else the descriptor stays readable after a turn that brought any.
        """
        if self._state is not None or not self.owned:
            self.check_usable()
        if self._readiness is not None:
            self._watched_turn(self._readiness, timeout_ns, taken)
            return
        if self.turn_quietly(timeout_ns):
            return
        if not self.columns.counts[FRESH]:
            self._enter(timeout_ns)
        self._process()

    def _watched_turn(self, readiness: Readiness, timeout_ns: int, taken: bool) -> None:
        """The same, and what the outside is to see of it."""
        self._turning = True
        try:
            readiness.clear()
            if not self.columns.counts[FRESH]:
                self._enter(timeout_ns)
            self._process()
            if lib.pz_ring_submit(self.raw):  # what was armed again; else with the next turn
                readiness.set()
            readiness.turned(self._next_ns(taken))
        except BaseException:
            readiness.set()
            raise
        finally:
            self._turning = False

    def want_turn(self) -> None:
        """Something was left: have the descriptor, if anybody watches it, poll readable."""
        if self._readiness is not None and self._state is None:
            self._readiness.set()

    def _next_ns(self, taken: bool) -> int:
        """In how many ns a turn is wanted although nothing arrives, or NEVER."""
        if not taken and (self.columns.n_data or self.posted):
            return 0  # for the user, who may not take all of it
        waits = [child.wait_ns for child in self._children]
        return min((ns for ns in waits if ns != NEVER), default=NEVER)

    def finish_turn(self) -> None:
        """Deal with what an interrupted turn drained."""
        self.check_usable()
        if self.columns.counts[FRESH]:
            self._process()

    def end_look(self) -> None:
        """Nobody looks at the columns any more."""
        if self.looked_at is not None:
            self.looked_at._expire()
            self.looked_at = None

    def _enter(self, timeout_ns: int) -> None:
        if self.looked_at is not None:
            self.end_look()
        for_ever = timeout_ns < 0
        for child in self._children:
            wait_ns = child.settle()
            if wait_ns != NEVER and not 0 <= timeout_ns <= wait_ns:
                timeout_ns = wait_ns
        if for_ever and not self._operations and not self.posted:
            for child in self._children:
                child.abandon()
        if self.posted:
            timeout_ns = 0
        elif timeout_ns < 0:
            timeout_ns = _SIGNAL_TIMEOUT_NS
        elif timeout_ns > _MOST_NS:
            timeout_ns = _MOST_NS
        pace = self.pace
        gather_us = pace.us
        if 0 <= timeout_ns < 1000 * gather_us:
            gather_us = 0
        self.others_done = 0
        n = lib.pz_ring_turn(self.raw, timeout_ns, pace.enough, gather_us, self.columns.raw)
        if n < 0 and n != -errno.EINTR:  # Python runs the handlers once we are back
            self.columns.counts[FRESH] = 0
            check(n, "io_uring_enter")

    def _process(self) -> None:
        """What was drained, from wherever an interrupted turn got to."""
        columns = self.columns
        self.pace.brought(columns.n_data, columns.n_bytes)
        # Data first: a request's last completion may be of the same turn.
        if not self.count():
            raise CorruptRing("a completion carries data for a request that does not exist")
        self.complete()

    # -- waking -------------------------------------------------------------

    @property
    def wakeup_fd(self) -> int:
        """A byte written to it ends the owner's wait: see :attr:`pyzcrx.Ring.wakeup_fd`."""
        if self._wakeup is None:
            self.check_usable()
            self._wakeup = Wakeup(self)
        return self._wakeup.number

    def wake(self) -> None:
        """End the owner's wait, from any thread: see :meth:`pyzcrx.Ring.wake`."""
        if self._wakeup is not None and self._state is None:
            self._wakeup.wake()

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
            # What an interrupted turn drained comes first.
            self.ending.cancel_all(self.others_done if self.columns.counts[FRESH] else None)
        finally:  # also when a signal ends the wait for it
            self._close_now()

    def close_elsewhere(self) -> None:
        """As :meth:`close`, without a wait, in a thread that is not the owner's."""
        if self._state is None:
            self._close_now()

    def _close_now(self) -> None:
        self.quiet = False
        for child in self._children:
            child.closed_by_ring()
        for operation in (*self._operations.values(), *self.ending.ended):
            operation._closed_by_ring()
            self.set_armed(operation, False)
        self.ending.ended.clear()
        self._children.clear()
        self._operations.clear()
        self._state = ClosedError
        self._finalizer.detach()
        lib.pz_ring_exit(self.raw)
        self._mapping.close()
        if self._readiness is not None:
            self._readiness.close()
        if self._wakeup is not None:
            self._wakeup.close()
            self._wakeup = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self.ring_fd}, {self.in_flight} in flight"
        return f"<Ring {state}>"

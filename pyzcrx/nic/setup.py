"""A NIC set up for zcrx for as long as it is used, and put back whatever happens."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pyzcrx._common.checked import MOST_BYTES, integer
from pyzcrx._kernel.interface import find
from pyzcrx.errors import BadArgument, ClosedError, FallbackWarning, JournalError
from pyzcrx.nic import irq, link, sockets, steering
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.journal import Journal, Owner, Store
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.plan import Plan, Wanted, plan
from pyzcrx.nic.read import Reader
from pyzcrx.nic.restore import leave
from pyzcrx.nic.state import State
from pyzcrx.nic.steering import Steered
from pyzcrx.nic.steps import Set, Steer, Step


class NicWarning(FallbackWarning):
    """Something about the NIC that is not as it should be, and does not stop anything."""


def prepare(
    interface: str | int,
    *flows: Flow | str,
    queue: int | None = None,
    queues: int = 1,
    rx_ring: int | None = None,
    irq_cpus: str | None = None,
    napi: dict[str, int] | None = None,
    force: bool = False,
    area_bytes: int | None = None,
    folder: Path | None = None,
) -> Setup:
    """Set a NIC up so that *flows* arrive on queues where zcrx can be registered.

    ::

        with (
            pyzcrx.nic.prepare("eth0", "tcp4 dst 192.0.2.1:9999") as setup,
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(64 << 20) as area,
        ):
            ifq = ring.register_ifq(area, setup)

    Header split on, hds-thresh 0, RSS kept off the queue, a rule for each flow. Leaving the
    block puts all of it back; leave the ring first.

    interface: its name, an alternative name, or its index. flows: what is steered, each as
    :meth:`Flow.parse` takes it. queue: the first rx queue; None: one that is free is chosen.
    queues: how many, which share the flows. rx_ring: entries of the rx rings; None: as they are.
    irq_cpus: the CPUs for the queues' interrupts, like ``"2,3"``. napi: settings of the queues'
    NAPI instances (:data:`pyzcrx.nic.settings.NAPI_FIELDS`). force: take data from other sockets
    and rules, if that is how the flows are. area_bytes: the size of the area that is to be
    registered; a warning says so if nothing could arrive in it. folder: of the journals.

    Raises, with everything as it was: NicUnsupported, NicBusy, RuleExists,
    RuleTableFull, RuleTooBroad, SetupFailed, JournalError, BadArgument, and the
    KernelError of a step; RestoreFailed where what a dead program left cannot be put
    back. An error in flight, of a step or of the block, stays what it is: a note says
    what could not be put back.
    """
    wanted = Wanted(
        tuple(Flow.parse(flow) if isinstance(flow, str) else flow for flow in flows),
        queue,
        queues,
        rx_ring,
        irq_cpus,
        napi or {},
        force,
        area_bytes=area_bytes,
    )
    return Setup(interface, wanted, folder=folder)


class Setup:
    """A NIC that is set up. See :func:`prepare`. Any thread, one at a time.

    keep: the set-up outlives this process, until ``zcrx-nic restore``.
    """

    def __init__(
        self,
        interface: str | int,
        wanted: Wanted,
        *,
        own: frozenset[int] | None = None,
        keep: bool = False,
        folder: Path | None = None,
    ) -> None:
        """Use :func:`prepare`."""
        self._closed = True
        self._lock = threading.Lock()
        """Of the journal: flows are added and removed by other threads."""
        irq.check_cpus(wanted.irq_cpus)
        self._kernel = Reader()
        try:
            ifindex = find(interface).index
            self._store = Store(link.netns(), ifindex, folder)
            with self._store.locked():
                self._reap()
                self._before = before = self._kernel.state(ifindex)
                own = sockets.inodes_of() if own is None else own
                self.plan: Plan = plan(before, wanted, sockets.read(), own)
                """What was done."""
                # Now: a warning may be made an error, and then nothing has been changed.
                for text in self.plan.warnings:
                    warnings.warn(text, NicWarning, stacklevel=3)
                self._apply(before, Owner.nobody() if keep else Owner.this())
        except BaseException:
            self._kernel.close()
            raise
        self._keep = keep
        self._closed = False

    @property
    def ifindex(self) -> int:
        """What to register on: a name may change."""
        return self.plan.ifindex

    @property
    def interface(self) -> str:
        """The NIC's name when it was set up."""
        return self.plan.interface

    @property
    def queues(self) -> tuple[int, ...]:
        """The rx queues that the flows arrive on."""
        return self.plan.queues

    @property
    def queue(self) -> int:
        """The first of them."""
        return self.plan.queues[0]

    # -- doing ----------------------------------------------------------------

    def _reap(self) -> None:
        """What dead programs left behind goes first."""
        journals, wrong = self._store.journals()
        for text in wrong:
            warnings.warn(text, NicWarning, stacklevel=4)
        for journal in reversed(journals):
            if journal.owner.dead:
                failure = leave(self._store, journal, self._kernel).failure(journal.interface)
                if failure is not None:
                    raise failure

    def _apply(self, state: State, owner: Owner) -> None:
        journal = Journal.begin(state, self.plan.queues, owner)
        try:
            for step in self.plan.steps:
                journal = journal.intending(step)
                self._store.save(journal)
                journal = journal.having_done(self._do(step))
                self._store.save(journal)
        except BaseException as error:
            report = leave(self._store, journal, self._kernel)
            failure = report.failure(self.plan.interface)
            _add_notes(error, [*report.notes, *([str(failure)] if failure else ())])
            raise
        self._name = journal.name
        self._journal = journal

    def _do(self, step: Step) -> Step:
        if isinstance(step, Set) and step.idle and step.key != "tcp-data-split":
            return step
        return step.do(self._kernel, self.plan.ifindex)

    # -- while it lasts ---------------------------------------------------------

    def steer(self, flow: Flow | str, *, queue: int | None = None) -> Steered:
        """Steer one more flow, until what this gives is closed, or the Setup is.

        For a connection that is about to be made: a rule that names both of its ends takes data
        from nothing else. queue: one of :attr:`queues`; None: the first. Any thread.

        Raises BadArgument, ClosedError, RuleExists, RuleTableFull, RuleTooBroad, NicUnsupported,
        NicBusy, JournalError, and the KernelError of the step; then nothing was changed.
        """
        flow = Flow.parse(flow) if isinstance(flow, str) else flow
        queue = self.queue if queue is None else integer("queue", queue, 0, MOST_BYTES)
        if queue not in self.queues:
            raise BadArgument(f"queue {queue} is not of this set-up, which has {self.queues}")
        with self._lock:
            if self._closed:
                raise ClosedError("the NIC was put back; prepare it again")
            with self._store.locked():
                journal = self._store.load(self._name)
                journal, step, notes = steering.add(
                    self._store, journal, self._kernel, self._before, flow, queue
                )
                self._journal = journal
        steered = Steered(flow, lambda: self._unsteer(step))
        try:
            for text in notes:
                warnings.warn(text, NicWarning, stacklevel=2)
        except BaseException:
            steered.close()  # a warning may be made an error
            raise
        return steered

    def _unsteer(self, step: Steer) -> None:
        with self._lock:
            if self._closed:
                return
            with self._store.locked():
                journal = self._store.load(self._name)
                self._journal, note = steering.remove(self._store, journal, self._kernel, step)
        if note:
            warnings.warn(note, NicWarning, stacklevel=3)

    def check(self) -> list[str]:
        """What others changed on the NIC since, that matters to us; a line each.

        Neither RSS nor rules are protected while a queue is bound. Cheap enough
        for once in a few seconds. Raises NoSuchInterface when the NIC is gone.
        """
        found = []
        ifindex = self.plan.ifindex
        for rss in self._kernel._ethtool.rss(ifindex)[:1]:
            leaks = sorted(set(rss.table) & set(self.plan.queues))
            if leaks:
                found.append(f"RSS leads other traffic to queue {leaks[0]} now")
        rules = (Ntuple(ifindex).rules() or ((), 0))[0]
        ours = [step for step in self._journal.steps if isinstance(step, Steer)]
        present = {(rule.location, rule.flow, rule.queue, rule.context) for rule in rules}
        for step in ours:
            if (step.location, step.flow, step.queue, step.context) not in present:
                found.append(f"the rule for {step.flow} is gone")
        places = {step.location for step in ours}
        for rule in rules:
            if (
                rule.location not in places
                and rule.context is None
                and rule.queue in self.plan.queues
            ):
                found.append(f"rule {rule.location} leads to queue {rule.queue} as well")
        rings = self._kernel._ethtool.rings(ifindex)
        if rings is not None and not rings.tcp_data_split:
            found.append("header split is off")
        return found

    # -- undoing ----------------------------------------------------------------

    def close(self) -> None:
        """Put everything back, when the queue is free. Idempotent.

        What others changed meanwhile is left, with a NicWarning. Raises
        RestoreFailed; then ``zcrx-nic restore`` can finish it.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if not self._keep:
                    self._leave()
            finally:
                self._kernel.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._keep:
            warnings.warn(
                f"{self.interface} was not put back: close its Setup, or zcrx-nic restore",
                ResourceWarning,
                stacklevel=2,
            )

    def _leave(self) -> None:
        notes = []
        with self._store.locked():
            try:
                # From disk: we may have inherited meanwhile.
                journal = self._store.load(self._name)
            except JournalError as error:
                notes.append(str(error))
                journal = self._journal
            report = leave(self._store, journal, self._kernel)
        notes += report.notes
        failure = report.failure(self.plan.interface)
        if failure is not None:
            _add_notes(failure, notes)
            raise failure
        for note in notes:
            warnings.warn(note, NicWarning, stacklevel=4)

    def abandon(self) -> None:
        """Let go without putting back: somebody else does, by :func:`restore`, when we are gone.

        For a process that gives its privilege up and has a supervisor with it.
        """
        if not self._closed:
            self._closed = True
            self._kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as failure:  # a warning may be made an error, too
            _add_notes(error, [str(failure), *getattr(failure, "__notes__", ())])


def _add_notes(error: BaseException, texts: Iterable[str]) -> None:
    """Say *texts* beside an error in flight, which they must not replace."""
    for text in texts:
        error.add_note(text)
        # For those who show an error without its notes.
        with suppress(NicWarning):
            warnings.warn(text, NicWarning, stacklevel=4)

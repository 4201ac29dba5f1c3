"""Flows that are steered to a NIC after its set-up, one at a time, and taken back alone.

A rule is written to the journal of the set-up before it is made, like every other step. So it is
removed with the rest whatever ends the program.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pyzcrx.errors import NoSuchInterface, RuleExists
from pyzcrx.nic import sockets
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.journal import Journal, Store
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.plan import NTUPLE, Wanted, check_flows, check_rules
from pyzcrx.nic.read import Reader
from pyzcrx.nic.state import State
from pyzcrx.nic.steps import Set, Steer, Step

_NTUPLE = f"feature:{NTUPLE}"


class Steered:
    """One flow that :meth:`pyzcrx.nic.Setup.steer` added. Any thread."""

    def __init__(self, flow: Flow, remove: Callable[[], None]) -> None:
        """Use :meth:`pyzcrx.nic.Setup.steer`."""
        self.flow = flow
        """What is steered."""
        self._remove: Callable[[], None] | None = remove

    def close(self) -> None:
        """Remove the rule. Idempotent; nothing is left to do once the Setup was closed.

        What others changed about the rule is left, with a NicWarning. Raises the KernelError of
        the removal, JournalError; closing the Setup tries again.
        """
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()

    def __repr__(self) -> str:
        return f"<Steered {self.flow}{'' if self._remove else ', removed'}>"


def one_connection(flow: Flow) -> bool:
    """Whether *flow* names both ends wholly, so that it has one connection's packets only."""
    return all((flow.dst_port, flow.src_port)) and all(
        network is not None and network.num_addresses == 1 for network in (flow.dst, flow.src)
    )


def add(
    store: Store, journal: Journal, kernel: Reader, state: State, flow: Flow, queue: int
) -> tuple[Journal, Steer, list[str]]:
    """Steer *flow* to *queue*. The store is locked.

    state: as the set-up found the NIC. Gives the journal as it is now, the step, and warnings.
    Raises as :func:`pyzcrx.nic.prepare`, and then the flow is not steered.
    """
    ours = [step for step in journal.steps if isinstance(step, Steer)]
    if any(step.flow == str(flow) for step in ours):
        raise RuleExists(f"{flow} is steered by this set-up already", "close that one first")
    if not one_connection(flow):
        check_flows((flow,), sockets.read(), sockets.inodes_of())
    features = state.features
    if not any(isinstance(step, Set) and step.key == _NTUPLE for step in journal.steps):
        features = kernel._ethtool.features(journal.ifindex)
    found = Ntuple(journal.ifindex).rules()
    rules = None
    if found is not None:
        places = {step.location for step in ours}
        rules = tuple(rule for rule in found[0] if rule.location not in places)
    # 0 slots, unknown: the kernel says when the table is full.
    now = replace(state, rules=rules, rule_slots=0, features=features)
    warnings = check_rules(now, Wanted((flow,)), (queue,))
    if features is not state.features:
        was = features[NTUPLE]
        journal, _ = _do(store, journal, kernel, Set(_NTUPLE, was, True, was))
    journal, step = _do(store, journal, kernel, Steer(str(flow), queue))
    assert isinstance(step, Steer)
    return journal, step, warnings


def _do(store: Store, journal: Journal, kernel: Reader, step: Step) -> tuple[Journal, Step]:
    intended = journal.intending(step)
    store.save(intended)
    try:
        done = step.do(kernel, journal.ifindex)
        journal = intended.having_done(done)
        store.save(journal)
    except BaseException as error:
        try:
            remove(store, intended, kernel, step)
        except Exception as failure:
            error.add_note(f"{step.command(journal.interface)}: {failure}")
        raise
    return journal, done


def remove(
    store: Store, journal: Journal, kernel: Reader, step: Step
) -> tuple[Journal, str | None]:
    """Undo one step. The store is locked. Gives the journal, and what was left as it is."""
    if step not in journal.steps:
        return journal, None
    note = None
    with suppress(NoSuchInterface):  # gone with it
        note = step.undo(kernel, journal.ifindex)
    steps = tuple(other for other in journal.steps if other != step)
    journal = replace(journal, steps=steps, done=len(steps))
    store.save(journal)
    return journal, note

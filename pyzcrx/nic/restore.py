"""Undo: of one set-up that ends or failed, and of those whose programs are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyzcrx._common.checked import MOST_IFINDEX, optional
from pyzcrx._kernel.interface import find
from pyzcrx._queue import bound
from pyzcrx.errors import JournalError, KernelError, NicBusy, NoSuchInterface, RestoreFailed
from pyzcrx.nic.journal import Journal, Store, stores
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.read import Reader
from pyzcrx.nic.steps import Set, undo_order

FREE_TIMEOUT_S = 30.0
"""The kernel gives a queue back a moment after its last user went."""


@dataclass(slots=True)
class Report:
    """What became of it. Notes: what was left as somebody else changed it; failures: what
    could not be put back.
    """

    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def failure(self, interface: str) -> RestoreFailed | None:
        """The failures as an error."""
        if not self.failures:
            return None
        return RestoreFailed(
            f"{interface} could not be put back: {'; '.join(self.failures)}",
            f"as root, when its user has ended: zcrx-nic restore {interface}",
        )


def leave(store: Store, journal: Journal, kernel: Reader) -> Report:
    """Undo a set-up's steps, the last first, and remove its journal. The store is locked.

    A setting that a program which came later wants as well stays, and that program
    inherits what is to be put back. Where something fails the rest is undone all
    the same, and the journal keeps what is left to do.
    """
    report = Report()
    if not _same_card(journal):
        report.notes.append(f"{journal.interface} is gone: nothing to put back")
        _record(store, journal, [], report)
        return report
    _wait_free(journal, kernel, report)
    journals, wrong = store.journals()
    report.notes += wrong
    later = [other for other in journals if other.since_ns > journal.since_ns]
    left: list[int] = []
    for at in undo_order(journal.steps):
        step = journal.steps[at]
        try:
            if isinstance(step, Set) and _bequeath(store, step, later):
                continue
            note = step.undo(kernel, journal.ifindex)
            if note:
                report.notes.append(note)
        except NoSuchInterface:
            report.notes.append(f"{journal.interface} is gone: nothing more to put back")
            left.clear()
            break
        except (KernelError, OSError, JournalError) as error:
            report.failures.append(str(error))
            left.append(at)
    _record(store, journal, left, report)
    return report


def _record(store: Store, journal: Journal, left: list[int], report: Report) -> None:
    """In the journal what is left to do; without anything it goes."""
    steps = tuple(journal.steps[at] for at in sorted(left))
    try:
        if steps:
            store.save(replace(journal, steps=steps, done=len(steps)))
        else:
            store.remove(journal)
    except JournalError as error:
        report.failures.append(str(error))


def _same_card(journal: Journal) -> bool:
    """Whether the index still is of the device that it was."""
    try:
        driver = Ntuple(journal.ifindex).driver()
    except NoSuchInterface:
        return False
    except KernelError:
        return True  # the steps will say what is wrong
    found = (driver[0], driver[2]) if driver else (None, None)
    return found == (journal.driver, journal.bus)


def _bequeath(store: Store, step: Set, later: list[Journal]) -> bool:
    """Whether a program that came later holds the setting: it puts back what we found."""
    for at, heir in enumerate(later):
        for place, theirs in enumerate(heir.steps):
            if isinstance(theirs, Set) and theirs.holds == step.holds:
                steps = list(heir.steps)
                steps[place] = theirs.inherit(step)
                later[at] = replace(heir, steps=tuple(steps))
                store.save(later[at])
                return True
    return False


def _wait_free(journal: Journal, kernel: Reader, report: Report) -> None:
    """Until nobody holds the queues: while one is held, header split cannot go."""
    if kernel._netdev is None:
        return
    ours = bound.holds(journal.ifindex, journal.queues)
    timeout_s = 0.0 if ours else FREE_TIMEOUT_S
    try:
        held = kernel._netdev.wait_unbound(journal.ifindex, journal.queues, timeout_s)
    except KernelError:
        return
    if held:
        by = "a ring of this program: close that first" if ours else "io_uring"
        report.notes.append(f"queue {held[0]} is still held by {by}")


def restore(
    interface: str | int | None = None,
    *,
    kept: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Journal]:
    """Undo set-ups whose programs are gone; with *kept* also those made to stay.

    Of one interface or of all in this network namespace. An index may be that of an
    interface which is gone. Gives what was undone; *say* gets a line for whatever was
    not as it should be. folder: of the journals; None: the usual one.

    Raises RestoreFailed at the end, NoSuchInterface, JournalError, NicBusy.
    """
    index = (
        find(interface).index
        if isinstance(interface, str)
        else optional("interface index", interface, 1, MOST_IFINDEX)
    )
    done: list[Journal] = []
    failures: list[str] = []
    for store in stores(folder):
        if index is not None and not store.path.name.endswith(f"-{index}"):
            continue
        try:
            done += _restore_card(store, failures, kept=kept, say=say)
        except (JournalError, NicBusy) as error:
            failures.append(str(error))  # the other NICs must not suffer from it
    if failures:
        raise RestoreFailed(
            "not everything could be put back: " + "; ".join(failures),
            "see zcrx-nic show, fix what stands in the way, and run zcrx-nic restore again",
        )
    return done


def _restore_card(
    store: Store, failures: list[str], *, kept: bool, say: Callable[[str], None] | None
) -> list[Journal]:
    """As :func:`restore`, of one NIC; *failures* gets what could not be put back."""
    done = []
    with store.locked(), Reader() as kernel:
        journals, wrong = store.journals()
        failures += wrong
        # The last first: what it found is what the one before it left.
        for journal in reversed(journals):
            if not (journal.owner.dead or (kept and journal.owner.kept)):
                continue
            report = leave(store, journal, kernel)
            if say is not None:
                for note in report.notes:
                    say(f"{journal.interface}: {note}")
            failures += report.failures
            done.append(journal)
    return done

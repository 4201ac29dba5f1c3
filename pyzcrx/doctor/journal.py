"""Journals of set-ups (:mod:`pyzcrx.nic`): what was changed on the NIC and not put back."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts, Leftover
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.nic.drivers import driver_of
from pyzcrx.nic.state import State


def check(facts: Facts) -> Iterator[Finding]:
    if facts.card is None:
        return
    if facts.card.leftovers is None:
        yield Finding(
            "journal.unseen",
            Severity.UNKNOWN,
            "whether programs left changes on the NIC cannot be seen",
            "their journals in /run/pyzcrx are root's",
            "run as root",
        )
        return
    for leftover in facts.card.leftovers:
        yield _journal(leftover, facts.card.state.interface)
        if leftover.state in ("live", "kept"):
            yield from _rules(leftover, facts.card.state)


def _rules(leftover: Leftover, state: State) -> Iterator[Finding]:
    """Those that it made and that are gone, as by a reset of the device."""
    if state.rules is None:
        return
    there = {(rule.location, rule.flow, rule.queue, rule.context) for rule in state.rules}
    whose = "zcrx-nic setup" if leftover.state == "kept" else f"process {leftover.pid}"
    reset = driver_of(state).reset
    for rule in leftover.rules:
        # Without a location it is only intended as yet.
        place = rule.location
        if place is None or (place, rule.flow, rule.queue, rule.context) in there:
            continue
        yield Finding(
            "journal.rule",
            Severity.WARNING,
            f"the rule of {whose} for {rule.flow} is gone",
            "its packets go where RSS leads them, and are copied"
            + (f"; a reset of the device {reset}" if reset else ""),
            f"{rule.command(state.interface)} loc {place}",
        )


def _journal(leftover: Leftover, interface: str) -> Finding:
    queues = ", ".join(map(str, leftover.queues))
    changed = f"{leftover.changes} change{'' if leftover.changes == 1 else 's'} for queue {queues}"
    match leftover.state:
        case "live":
            what = f"process {leftover.pid} has made {changed} and will put it back"
            return Finding("journal.live", Severity.OK, what)
        case "kept":
            return Finding(
                "journal.kept",
                Severity.NOTE,
                f"zcrx-nic setup made {changed}",
                "it stays until it is restored",
                f"zcrx-nic restore {interface}",
            )
        case "stale":
            return Finding(
                "journal.stale",
                Severity.WARNING,
                f"process {leftover.pid} made {changed} and died without putting it back",
                "rules and settings that nobody needs steer traffic away from its owners",
                f"zcrx-nic restore --stale {interface}",
            )
        case "newer":
            return Finding(
                "journal.newer",
                Severity.WARNING,
                f"journal {leftover.name} is of a newer pyzcrx",
                "only that can tell what was changed, and put it back",
                "run zcrx-doctor and zcrx-nic restore of the newer pyzcrx",
            )
        case "foreign":
            return Finding(
                "journal.foreign",
                Severity.WARNING,
                f"{leftover.name}.json, among the journals, is no file of root's or ours",
                "no program of pyzcrx wrote it",
                "see who put it in /run/pyzcrx/nic and remove it",
            )
        case _:
            return Finding(
                "journal.damaged",
                Severity.WARNING,
                f"journal {leftover.name} is damaged",
                "what its program changed cannot be put back by itself",
                f"compare zcrx-nic show {interface} with what the NIC should be, then delete it",
            )

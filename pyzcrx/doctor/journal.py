"""Journals of set-ups (:mod:`pyzcrx.nic`): what was changed on the NIC and not put back."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts, Leftover
from pyzcrx.doctor.finding import Finding, Severity


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

"""All checks, one after the other."""

from __future__ import annotations

from pyzcrx.doctor import (
    bugs,
    card,
    journal,
    kernel,
    memory,
    placement,
    privilege,
    queue,
    steering,
    urgent,
)
from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity

MACHINE = (kernel.check, bugs.check, privilege.check, memory.check, card.check)
CARD = (journal.check, steering.check, placement.check, urgent.check)


def examine(facts: Facts) -> list[Finding]:
    """The findings over *facts* (:func:`read`), by subject. Pure: asks nothing of the kernel."""
    findings = [finding for check in MACHINE for finding in check(facts)]
    if any(f.id == "card.driver" and f.severity is Severity.PROBLEM for f in findings):
        return findings  # it never will: its queues and rules do not matter
    queues = list(queue.check(facts))
    if any(f.id == "queue.exists" for f in queues):
        return findings + queues  # nothing is steered to a queue that is not there
    return findings + queues + [finding for check in CARD for finding in check(facts)]


def after_trial(trial: Finding, findings: list[Finding]) -> list[Finding]:
    """*findings* with a *trial*'s result: one that worked settles what could only be guessed."""
    if trial.severity is Severity.PROBLEM:
        return [*findings, trial]
    settled = {"card.split", "card.driver"}
    return [
        finding
        for finding in findings
        if not (finding.id in settled and finding.severity is Severity.UNKNOWN)
    ] + [trial]

"""What the doctor says: findings, each with its reason and the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Severity(Enum):
    """From well to ill; UNKNOWN is what could not be seen."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"
    """zcrx does not work here, or hurts others, until this is fixed."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that ``--fix`` may make.

    key, value: of :mod:`pyzcrx.nic.settings`, or ``rule``, or ``sysctl:NAME``.
    command: the equal command line.
    """

    key: str
    value: Any
    command: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    id: what, as SUBJECT.THING, stable. what: one line. why: why it matters.
    hint: what to do, most often a command.
    """

    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    fix: Fix | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"severity": self.severity.value}


def ready(findings: Iterable[Finding]) -> bool:
    """Whether zcrx would work: none of *findings* is a problem."""
    return not any(finding.severity is Severity.PROBLEM for finding in findings)

"""What the doctor says: findings, each with its reason and the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Severity(Enum):
    """How bad a finding is.

    OK: as it should be. NOTE: worth knowing. UNKNOWN: it could not be seen. WARNING: zcrx works,
    but not as well as it could.
    """

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
    command: the equivalent command line.
    """

    key: str
    value: Any
    command: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    id: what, as SUBJECT.THING, stable. severity: how bad it is. what: one line. why: why it
    matters. hint: what to do, most often a command. fix: the change that ``--fix`` can make; None:
    it can make none.
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

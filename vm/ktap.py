"""What a selftest of the kernel said: counts, reasons, and a table of many."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SKIP_STATUS = 4  # kselftest's own
RESULT = re.compile(
    r"(?P<verdict>not ok|ok) \d+ (?P<case>\S+)(?: # (?P<why>SKIP|XFAIL|XPASS)\b ?)?"
)
SHELL_RESULT = re.compile(r"TEST: (?P<case>.+?) +\[(?P<verdict> OK |FAIL|SKIP|XFAIL)\]")
SHELL_VERDICTS = {" OK ": "pass", "FAIL": "fail", "SKIP": "skip", "XFAIL": "xfail"}
# Of the lines before a failed case, and of a test that ended without results.
REASONS = (
    re.compile(r"# Check failed (?P<reason>.+)"),
    re.compile(
        r"(?:# Exception\| )?(?:[\w.]+\.)?(?P<kind>\w+(?:Ex|Error|Exception|Failure)): "
        r"(?P<reason>.+)"
    ),
    re.compile(r"(?:# )?SKIP:? (?P<reason>.+)"),
)


@dataclass
class Outcome:
    """Of one test file. ``reasons`` has a line for each case that did not pass."""

    test: str
    status: int
    counts: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def read(cls, test: str, status: int, output: bytes, seconds: float = 0.0) -> Outcome:
        outcome = cls(test, status, seconds=seconds)
        said = skipped = ""
        for line in output.decode(errors="replace").splitlines():
            if found := RESULT.match(line):
                verdict = {"ok": "pass", "not ok": "fail"}[found["verdict"]]
                outcome._add(
                    (found["why"] or verdict).lower(), found["case"], line[found.end() :] or said
                )
                said = ""
            elif found := SHELL_RESULT.match(line):
                outcome._add(SHELL_VERDICTS[found["verdict"]], found["case"], "")
            else:
                for pattern in REASONS:
                    if found := pattern.match(line):
                        said = found["reason"]
                        if "SKIP" in line or "KsftSkipEx" in line:
                            skipped = said
        if not outcome.counts and (skipped or status == SKIP_STATUS):
            outcome._add("skip", "", skipped or said)
            outcome.status = SKIP_STATUS
        elif not outcome.counts:
            outcome.reasons.append(said or f"no result, status {status}")
        return outcome

    def _add(self, verdict: str, case: str, reason: str) -> None:
        self.counts[verdict] += 1
        if verdict != "pass":
            words = (f"{verdict}:", case.partition(".")[2] or case, reason.strip())
            self.reasons.append(" ".join(filter(None, words)))

    @property
    def ok(self) -> bool:
        return (
            self.status in (0, SKIP_STATUS)
            and not self.counts["fail"]
            and bool(self.counts.total())
        )

    def __str__(self) -> str:
        said = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        more = "" if self.ok or self.status == 0 else f" (status {self.status})"
        return f"{'ok  ' if self.ok else 'FAIL'} {self.test}: {said or 'no result'}{more}"

    def as_json(self) -> dict[str, Any]:
        return {
            "test": self.test,
            "status": self.status,
            "seconds": round(self.seconds, 1),
            "counts": dict(self.counts),
            "reasons": self.reasons,
        }


def table(outcomes: Iterable[Outcome]) -> str:
    """As markdown: the counts, and the first reason of each kind."""
    lines = [
        "| test | pass | fail | skip | xfail | seconds | first reasons |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        counts = " | ".join(
            str(outcome.counts[verdict] or "") for verdict in ("pass", "fail", "skip", "xfail")
        )
        reasons = "; ".join(_firsts(outcome.reasons)).replace("|", "\\|")
        lines.append(f"| `{outcome.test}` | {counts} | {outcome.seconds:.0f} | {reasons} |")
    return "\n".join(lines) + "\n"


def _firsts(reasons: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for reason in reasons:
        first.setdefault(reason.partition(":")[0], reason)
    return [reason if len(reason) <= 160 else f"{reason[:157]}..." for reason in first.values()]


def programs(makefile: str) -> list[str]:
    """The TEST_PROGS of a selftests' makefile."""
    text = makefile.replace("\\\n", " ")
    found = re.findall(r"^TEST_PROGS\s*[:+]?=([^\n]*)", text, re.MULTILINE)
    return [name for names in found for name in names.partition("#")[0].split()]

"""From runs to figures: medians, spreads, ratios, and what may be compared with what."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyzcrx.bench.plan import MIB, BenchError

Run = dict[str, Any]
FORMAT = 1
FIGURES = ("bytes", "seconds", "chunks", "user_s", "system_s")
"""What every run has."""
COUNTED = "instructions"
"""What a run has, too, where something counted them: of the receiver, user and system."""
MOST_BYTES = 256 << 20
"""Of a report in a file."""


@dataclass
class Report:
    """One call of ``zcrx-bench``: its set-up, and every run of every receiver."""

    setup: dict[str, Any]
    versions: dict[str, str]
    problems: list[str] = field(default_factory=list)
    """What could not be pinned or run."""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    echo_ns: dict[str, list[int]] = field(default_factory=dict)
    echo_runs: dict[str, Run] = field(default_factory=dict)
    """What the receivers told of those round trips."""

    def add_round(self, runs: dict[str, Run]) -> None:
        """A run of each receiver: all of them, or after an interruption none."""
        self.runs = {name: [*self.runs.get(name, ()), run] for name, run in runs.items()}

    @property
    def rounds(self) -> int:
        """How many are in it."""
        return max(map(len, self.runs.values()), default=0)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **vars(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        try:
            told = json.loads(text)
            if told.pop("format") != FORMAT:
                raise BenchError("a report of another version of zcrx-bench")
            report = cls(**told)
            report._check()
            return report
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BenchError("not a report of zcrx-bench --json") from None

    def _check(self) -> None:
        """Raises KeyError, TypeError or ValueError where a part is of another shape."""
        for part, kind in (
            (self.setup, dict),
            (self.versions, dict),
            (self.problems, list),
            (self.runs, dict),
            (self.echo_ns, dict),
            (self.echo_runs, dict),
        ):
            if not isinstance(part, kind):
                raise TypeError
        for run in (run for runs in self.runs.values() for run in runs):
            if not all(isinstance(run[name], int | float) for name in FIGURES):
                raise TypeError
            if not isinstance(run.get(COUNTED, 0), int | float):
                raise TypeError
            if not (run["bytes"] > 0 and run["seconds"] > 0):
                raise ValueError

    @classmethod
    def read(cls, path: Path) -> Report:
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)  # /dev/zero has no end
            if len(data) > MOST_BYTES:
                raise BenchError("not a report of zcrx-bench --json")
            return cls.from_json(data.decode())
        except OSError as error:
            raise BenchError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BenchError(f"{path}: not a report of zcrx-bench --json") from None
        except BenchError as error:
            raise BenchError(f"{path}: {error}") from None


def added_up(runs: Sequence[Run]) -> Run:
    """One run of several processes: sums, over the time from the first begin to the last end."""
    if len(runs) == 1:
        return dict(runs[0])
    names = {name for run in runs for name, value in run.items() if isinstance(value, int | float)}
    sums: Run = {name: sum(run.get(name, 0) for run in runs) for name in sorted(names)}
    began = min(run["began_s"] for run in runs)
    ended = max(run["began_s"] + run["seconds"] for run in runs)
    return sums | {
        "began_s": began,
        "seconds": ended - began,
        "bytes_by_queue": [run["bytes"] for run in runs],
    }


def rate(run: Run) -> float:
    """MiB a second."""
    return float(run["bytes"] / MIB / run["seconds"])


def per_gib(name: str) -> Callable[[Run], float]:
    """Of a sum such as ``user_s``."""
    return lambda run: float(run.get(name, 0) / run["bytes"] * (1 << 30))


def cpu(run: Run) -> float:
    """Seconds of the receiver's process for a GiB: user and system."""
    return float((run["user_s"] + run["system_s"]) / run["bytes"] * (1 << 30))


def instructions(run: Run) -> float:
    """Thousands of the receiver for a MiB, where they were counted."""
    return float(run[COUNTED] / (run["bytes"] / MIB) / 1000)


def chunk_bytes(run: Run) -> float:
    return float(run["bytes"] / run["chunks"]) if run["chunks"] else 0.0


@dataclass(frozen=True)
class Spread:
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            raise BenchError("no runs")
        return cls(statistics.median(values), min(values), max(values))


def ratio(
    runs: Sequence[Run], reference: Sequence[Run], figure: Callable[[Run], float]
) -> float | None:
    """Median of the rounds' ratios: what shook a whole round shakes both."""
    pairs = zip(runs, reference, strict=False)
    ratios = [figure(a) / figure(b) for a, b in pairs if figure(b)]
    return statistics.median(ratios) if ratios else None


def percentile(values: Sequence[int], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    if not values:
        raise BenchError("no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return float(ordered[max(0, int(rank) - 1)])


def check_comparable(a: Report, b: Report) -> None:
    """Raises BenchError that names what differs between the two set-ups."""
    keys = sorted(a.setup.keys() | b.setup.keys())
    different = [
        f"{key} ({a.setup.get(key)} and {b.setup.get(key)})"
        for key in keys
        if a.setup.get(key) != b.setup.get(key)
    ]
    if different:
        raise BenchError(f"the set-ups differ, nothing to compare: {'; '.join(different)}")
    if not a.runs.keys() & b.runs.keys():
        raise BenchError("no receiver is in both reports")

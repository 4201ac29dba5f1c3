"""The tier ``perf``: counted costs as ratios within one run, beside those recorded.

Recorded are ratios, with the versions they were counted on; never times, and no absolute
numbers. How a run batches depends on how busy the machine is (C's own figure moved by 44%
within a run, docs/explanation/performance.md), so a ratio may be off by TOLERANCE before it
counts as worse; touches of payload are exact. What a buffer costs on this machine, in slices of
a memoryview, repeats itself, but not from one build of Python to the other.
"""

from __future__ import annotations

import json
import platform
import shlex
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vm import bench, emulator, external, footprint, starting
from vm.errors import VmError

PERF = Path(__file__).parent.parent / "tests" / "perf"
RECORDED = PERF / "recorded.json"
TOLERANCE = 0.40
TOUCH_TOLERANCE = 0.03
HERE_TOLERANCE = 0.25
START_TOLERANCE = 0.10
HERE = "instructions a buffer, here"
REQUEST = "instructions a request, here"
WAYS = ("columns", "events", "buffers", "batch-view", "chunks")
TURNS = ("columns", "chunks")
RUNS = ", each a run"
SMALL = ", MTU 1500"
MANY = ", 64 connections"
MOST = ", 512 connections"
RATIOS = {
    "": (
        ("columns", "c-gather"),
        ("chunks", "c-gather"),
        ("buffers", "c-gather"),
        ("columns", "recv_into-1M"),
        ("aio-chunks", "c-gather"),
        ("aio-chunks", "asyncio"),
        ("aio-streams", "asyncio"),
        ("aio-streams", "uvloop"),
    ),
    SMALL: (("columns", "c-gather"),),
    MANY: (("columns", "c-gather"), ("columns", "recv_into-1M"), ("aio-chunks", "c-gather")),
    MOST: (("columns", "c-gather"),),
}
"""Receivers whose instructions are compared, by what is special about the run."""
SIZES = {
    "": ("--rounds", "3", "--size", "64M"),
    SMALL: ("--rounds", "5", "--size", "256M"),
    MANY: ("--rounds", "5", "--size", "256M", "--connections", "64"),
    MOST: ("--rounds", "3", "--size", "1G", "--connections", "512"),
}
"""So that what a connection's begin and end cost is a small part."""
SHORT_RATIOS = (("columns", "c"), ("buffers", "c"), ("columns", "asyncio"))
SHORT = (
    *("-r", "c", "-r", "columns", "-r", "buffers", "-r", "asyncio", "--rounds", "2"),
    *("--short", "256", "--connections", "16", "--echo-rounds", "500", "--echo-bytes", "64"),
)
"""Connections that come and go, and round trips."""
GOALS = {
    f"instructions, columns of c-gather{MANY}": 1.20,
    f"instructions, columns of c-gather{MOST}": 1.30,
    "instructions, buffers of c-gather": 5.0,
    "instructions, aio-chunks of c-gather": 2.0,
    f"instructions, columns of recv_into-1M{MANY}": 0.75,
    "instructions, a short connection, columns of c": 3.0,
    "instructions, a short connection, buffers of c": 3.0,
    f"{HERE}, a turn of columns of a slice": 3.9,
    f"{starting.START}, import pyzcrx of import asyncio": 2.0,
}
"""What a recorded ratio is at most. A slice is 1,019 instructions, a turn at most 4,000."""


@dataclass(frozen=True)
class Judged:
    """One ratio, beside the recorded one."""

    name: str
    recorded: float | None
    now: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.recorded is not None and self.now <= self.recorded * (1 + self.tolerance)

    def __str__(self) -> str:
        if self.recorded is None:
            return f"{self.name}: {self.now:.3f}, nothing recorded: record it (vm perf --record)"
        verdict = "ok" if self.ok else "WORSE"
        if self.now < self.recorded * (1 - self.tolerance):
            verdict = "better: record it (python -m vm perf --record)"
        return f"{self.name}: {self.now:.3f}, recorded {self.recorded:.3f}: {verdict}"


def _totals(measured: bench.Measured) -> dict[str, float]:
    return {
        name: statistics.median(
            bench.per(run, counts, *bench.RECEIVER) for run, counts in measured.counted(name)
        )
        for name in measured.report["runs"]
    }


def instructions(measured: bench.Measured, what: str = "") -> dict[str, float]:
    """The receivers' instructions for a MiB as ratios, medians of the rounds.

    *what* is a key of RATIOS.
    """
    totals = _totals(measured)
    return {f"instructions, {a} of {b}{what}": totals[a] / totals[b] for a, b in RATIOS[what]}


def short(measured: bench.Measured) -> dict[str, float]:
    """The receivers' instructions for a short connection, and for a round trip, as ratios."""
    totals = _totals(measured)
    trips = {name: sum(parts) for name, parts in bench.round_trips(measured).items()}
    return {
        f"instructions, {what}, {a} of {b}": of[a] / of[b]
        for what, of in (("a short connection", totals), ("a round trip", trips))
        for a, b in SHORT_RATIOS
    }


def touches(measured: bench.Measured) -> dict[str, float]:
    """The receivers' touches of payload as a ratio."""
    ours = [n for what, names in bench.TOUCHES.items() if what != "card's DMA" for n in names]
    [(run, counts)], [(other, others)] = (
        measured.counted(name) for name in ("columns", "recv_into-1M")
    )
    share = bench.touched(run, counts, *ours) / bench.touched(other, others, *ours)
    return {"touches, columns of recv_into-1M": share}


def here(report: dict[str, Any], what: str = "") -> dict[str, float]:
    """A buffer's instructions in those of a slice, from ``scripts/per-buffer --json``.

    And a turn's, where it counted two sizes. *what* says what else was special.
    """
    ratios = {}
    counted = report["instructions"]
    for per_turn, ways in counted.items():
        # The end of a stream costs more than its runs, and a replay has many of both.
        for name in WAYS[:-1] if what == RUNS else WAYS:
            ratio = ways[name]["total"] / ways["slice"]["total"]
            ratios[f"{HERE}, {name} of a slice in turns of {per_turn}{what}"] = ratio
    if len(counted) == 2:
        (small, few), (large, many) = ((int(n), ways) for n, ways in counted.items())
        for name in TURNS:
            more = few[name]["total"] - many[name]["total"]
            turn = more / (1 / small - 1 / large)
            ratios[f"{HERE}, a turn of {name} of a slice{what}"] = turn / few["slice"]["total"]
    return ratios


def _counted(*arguments: str) -> dict[str, Any]:
    counting = ("--rounds", "1", "--instructions", "--json")
    argv = [sys.executable, "-P", str(PERF / "per_buffer.py"), *arguments, *counting]
    return external.report_of("per-buffer", argv)


def per_buffer() -> dict[str, float]:
    """The same, counted now: of one connection, and of 64 whose runs have one buffer each."""
    ratios = here(_counted("--per-turn", "64", "--per-turn", "1024"))
    return ratios | here(_counted("--per-turn", "1024", "--connections", "64"), RUNS)


def per_request() -> dict[str, float]:
    """A request's begin and its end, as multiples of what it costs to make and close a socket."""
    told = external.report_of("per-request", [sys.executable, "-P", str(PERF / "per_request.py")])
    return {
        f"{REQUEST}, its {name} of a socket object": told[name] / told["socket"]
        for name in told
        if name != "socket"
    }


def _arguments(what: str, *size: str) -> tuple[str, ...]:
    """The receivers of RATIOS, and how much they receive, or *size*."""
    names = dict.fromkeys(name for pair in RATIOS[what] for name in reversed(pair))
    return (*(argument for name in names for argument in ("-r", name)), *(size or SIZES[what]))


def _measured(
    options: bench.Options, *runs: tuple[str, ...], tables: bool = False
) -> list[bench.Measured]:
    """Each with these arguments, in one guest. What counts of one run is the last of its number."""
    done = []
    with tempfile.TemporaryDirectory() as name, bench.booted(options, Path(name)) as guest:
        for arguments in runs:
            done.append(bench.measure(guest, options, arguments, Path(name)))
            if tables:
                click.echo(f"\nMTU {options.mtu}, {shlex.join(arguments)}\n")
                bench.show(guest, options, done[-1])
    return done


def count(*, tables: bool = False) -> tuple[dict[str, float], dict[str, str]]:
    """All ratios, and the versions they hold for: three guests. tables: print them, too."""
    runs = (_arguments(""), _arguments(MANY), _arguments(MOST), SHORT)
    counted, many, most, came_and_went = _measured(bench.Options(), *runs, tables=tables)
    [small] = _measured(bench.Options(mtu=1500), _arguments(SMALL), tables=tables)
    ratios = instructions(counted) | instructions(small, SMALL)
    ratios |= instructions(many, MANY) | instructions(most, MOST) | short(came_and_went)
    once = _arguments("", "--rounds", "1", "--size", "4M")
    [touched] = _measured(bench.Options(touches=True), once)
    ratios |= touches(touched)
    ratios |= per_buffer() | per_request() | starting.ratios() | footprint.ratios()
    setup = counted.report["setup"]
    versions = {
        "kernel": setup["kernel"],
        "python": setup["python"],
        "qemu": emulator.obtain().version,
        "pyzcrx": counted.report["versions"]["pyzcrx"],
        "python here": platform.python_version(),
    }
    return ratios, versions


def record(path: Path = RECORDED, *, tables: bool = False) -> dict[str, float]:
    """Count and write down."""
    ratios, versions = count(tables=tables)
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    path.write_text(json.dumps({"versions": versions, "ratios": rounded}, indent=1) + "\n")
    return rounded


def _tolerance(name: str) -> float:
    if name.startswith("touches"):
        return TOUCH_TOLERANCE
    if name.startswith((REQUEST, starting.START, footprint.HELD)):
        return START_TOLERANCE
    return HERE_TOLERANCE if name.startswith(HERE) else TOLERANCE


def judge(ratios: dict[str, float], recorded: dict[str, Any]) -> list[Judged]:
    """Each ratio beside its recorded one."""
    return [
        Judged(
            name,
            recorded["ratios"].get(name),
            now,
            _tolerance(name),
        )
        for name, now in ratios.items()
    ]


def check(path: Path = RECORDED, *, tables: bool = False) -> list[Judged]:
    """Count, and judge by what is recorded."""
    try:
        recorded = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise VmError(f"{path}: {error}; record it with python -m vm perf --record") from None
    return judge(count(tables=tables)[0], recorded)

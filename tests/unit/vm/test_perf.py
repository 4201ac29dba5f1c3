"""What the counting plugin is told, how its profile is read, how ratios are judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vm import bench, counting, footprint, perf, profile, starting
from vm.errors import BuildFailed, VmError

KALLSYMS = """ffffffff81000000 T _text
ffffffff81001000 T asm_exc_page_fault
ffffffff81001020 T asm_sysvec_call_function
ffffffff81001040 T asm_common_interrupt
ffffffff81001060 t handle_softirqs
ffffffff81001080 D a_variable
ffffffff81002000 T __switch_to_asm\t[zcrxsim]
"""


def test_symbols_of_interest() -> None:
    assert counting.of_interest(counting.Symbols(KALLSYMS)).splitlines() == [
        "exception ffffffff81001000 ffffffff81001020",
        "irq ffffffff81001020 ffffffff81001040",
        "irq ffffffff81001040 ffffffff81001060",
        "softirq ffffffff81001060 ffffffff81002000",
        "switch ffffffff81002000 ffffffff81003000",
    ]


def test_symbols_by_address() -> None:
    symbols = counting.Symbols(KALLSYMS)
    assert symbols.at(0xFFFFFFFF81001025) == "asm_sysvec_call_function"
    assert symbols.at(0x1000) == "0x1000"


def test_a_profile_is_read_by_run(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_text("1 user 400000 2 10\n1 user 400000 1 5\n2 system ffffffff81000000 1 3\n")
    assert profile.read(file) == {
        1: {"user": {0x400000: 15}},
        2: {"system": {0xFFFFFFFF81000000: 3}},
    }


def test_a_plugin_that_does_not_build_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "count.c").write_text("no C\n")
    monkeypatch.setattr(counting, "SOURCE", tmp_path)
    with pytest.raises(BuildFailed, match="counting plugin"):
        counting.plugin()


@pytest.mark.parametrize(
    ("now", "ok", "said"),
    [(1.0, True, "ok"), (1.39, True, "ok"), (1.41, False, "WORSE"), (0.5, True, "better")],
)
def test_ratios_are_judged_by_those_recorded(now: float, ok: bool, said: str) -> None:
    [judged] = perf.judge({"columns of c": now}, {"ratios": {"columns of c": 1.0}})
    assert judged.ok is ok
    assert said in str(judged)


def test_touches_have_little_tolerance() -> None:
    [judged] = perf.judge({"touches, a of b": 0.35}, {"ratios": {"touches, a of b": 0.333}})
    assert not judged.ok


def test_what_is_not_recorded_fails() -> None:
    [judged] = perf.judge({"new": 1.0}, {"ratios": {}})
    assert not judged.ok
    assert "nothing recorded" in str(judged)


def test_a_broken_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(VmError, match="--record"):
        perf.check(tmp_path / "none.json")


def test_the_record_names_its_versions() -> None:
    recorded = json.loads(perf.RECORDED.read_text())
    versions = {"kernel", "python", "qemu", "pyzcrx", "python here"}
    assert recorded["versions"].keys() == versions
    ways = dict.fromkeys(("slice", *perf.WAYS), TOTAL)
    report = {"instructions": {"64": ways, "1024": ways}}
    runs = {"instructions": {"1024": ways}}
    here = perf.here(report) | perf.here(runs, perf.RUNS)
    starts = [name for name in recorded["ratios"] if name.startswith(starting.START)]
    held = [name for name in recorded["ratios"] if name.startswith(footprint.HELD)]
    expected = sum(map(len, perf.RATIOS.values())) + 2 * len(perf.SHORT_RATIOS) + 1
    expected += len(here) + len(starts) + len(held)
    expected += len([name for name in recorded["ratios"] if name.startswith(perf.REQUEST)])
    assert len(recorded["ratios"]) == expected
    assert here.keys() <= recorded["ratios"].keys()


@pytest.mark.parametrize(("name", "most"), perf.GOALS.items())
def test_what_is_recorded_reaches_its_goal(name: str, most: float) -> None:
    assert json.loads(perf.RECORDED.read_text())["ratios"][name] <= most


@pytest.mark.parametrize("what", perf.RATIOS)
def test_receivers_are_compared_by_their_medians(what: str) -> None:
    names = {name for pair in perf.RATIOS[what] for name in pair}
    units = {name: 1000 * (i + 1) for i, name in enumerate(sorted(names))}
    runs: dict[str, list[dict[str, int]]] = {}
    counts: dict[int, dict[str, int]] = {}
    for name, unit in units.items():
        runs[name] = []
        for times in (1, 2, 30):
            mark = len(counts) + 1
            runs[name].append({"mark": mark, "bytes": 1 << 20})
            counts[mark] = dict.fromkeys(bench.RECEIVER, times * unit)
    ratios = perf.instructions(bench.Measured({"runs": runs}, counts, {}), what)
    assert ratios == {
        f"instructions, {a} of {b}{what}": units[a] / units[b] for a, b in perf.RATIOS[what]
    }


def test_every_command_starts_within_its_recorded_ratio() -> None:
    recorded = json.loads(perf.RECORDED.read_text())["ratios"]
    names = [f"{starting.START}, {name} of import asyncio" for name, _ in starting.programs()]
    assert {name for name in recorded if name.startswith(starting.START)} == {*names}
    assert recorded[names[0]] <= 2, "import pyzcrx"
    [judged] = perf.judge({names[0]: 1.2 * recorded[names[0]]}, {"ratios": recorded})
    assert not judged.ok


def test_short_connections_and_round_trips_are_ratios_of_instructions() -> None:
    """Of a run each with a mark of its own, and of round trips with another."""
    names = dict.fromkeys(name for a, b in perf.SHORT_RATIOS for name in (b, a))
    report: dict[str, Any] = {
        "runs": {name: [{"bytes": 1 << 20, "mark": i}] for i, name in enumerate(names, 1)},
        "echo_ns": {name: [1000, 2000] for name in names},
        "echo_runs": {name: {"mark": 10 + i} for i, name in enumerate(names, 1)},
    }
    kinds = {"user": 1, "system": 2, "user_steps": 3, "system_steps": 4}
    counts = {
        mark + i: {kind: n * (mark + i) for kind, n in kinds.items()}
        for i in range(1, len(names) + 1)
        for mark in (0, 10)
    }
    measured = bench.Measured(report, counts, {})
    assert bench.round_trips(measured)["c"] == (4 * 11 / 2, 6 * 11 / 2)
    ratios = perf.short(measured)
    at = {name: i for i, name in enumerate(names, 1)}
    assert list(ratios.values()) == [
        *(at[a] / at[b] for a, b in perf.SHORT_RATIOS),
        *((10 + at[a]) / (10 + at[b]) for a, b in perf.SHORT_RATIOS),
    ]
    heading, first, *_ = bench.echoes(measured)
    assert heading.split() == ["a", "round", "trip", "user", "system", "sum", "c"]
    assert first.split() == ["c", "22", "33", "55", "1.000"]
    unmarked = bench.Measured(report, {}, {})
    assert list(bench.echoes(unmarked)) == []


def test_the_recorded_goals_of_short_connections_hold() -> None:
    recorded = json.loads(perf.RECORDED.read_text())["ratios"]
    for name in ("columns", "buffers"):
        assert recorded[f"instructions, a short connection, {name} of c"] <= 3
    assert recorded["instructions, a round trip, columns of asyncio"] <= 0.7


def test_a_connection_takes_less_memory_than_one_of_asyncio() -> None:
    found, recorded = footprint.ratios(), json.loads(perf.RECORDED.read_text())["ratios"]
    assert found.keys() == {name for name in recorded if name.startswith(footprint.HELD)}
    assert max(found.values()) < 1
    [judged, _] = perf.judge({name: 1.2 * recorded[name] for name in found}, {"ratios": recorded})
    assert not judged.ok


def test_memory_that_cannot_be_counted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no pyzcrx here >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(VmError, match="ended with 1: no pyzcrx here"):
        footprint.sizes()


@pytest.mark.skipif(not shutil.which("valgrind"), reason="expected: valgrind is not installed")
def test_a_start_that_fails_is_told() -> None:
    with pytest.raises(VmError, match="ended with 1"):
        starting.instructions("raise SystemExit(1)")


TOTAL = {"total": 10.0}


def counted(**totals: float) -> dict[str, dict[str, float]]:
    """Instructions of each way."""
    ways = dict.fromkeys(perf.WAYS, 1000.0) | {"slice": 1000.0} | totals
    return {name: {"total": total} for name, total in ways.items()}


def test_a_buffers_cost_here_is_in_slices() -> None:
    report = {"instructions": {"64": counted(columns=150.0, buffers=2800.0)}}
    ratios = perf.here(report)
    assert list(ratios.values()) == [0.15, 1.0, 2.8, 1.0, 1.0]
    for times, ok in (1.2, True), (1.3, False):
        judged = perf.judge({name: times * r for name, r in ratios.items()}, {"ratios": ratios})
        assert [each.ok for each in judged] == [ok] * 5


def test_a_turns_cost_is_what_smaller_turns_cost_more() -> None:
    few, many = counted(columns=40.0 + 3200 / 64), counted(columns=40.0 + 3200 / 1024)
    ratios = perf.here({"instructions": {"64": few, "1024": many}}, " there")
    turns = {name: ratio for name, ratio in ratios.items() if "a turn of" in name}
    assert [name.rpartition(", ")[2] for name in turns] == [
        "a turn of columns of a slice there",
        "a turn of chunks of a slice there",
    ]
    assert list(turns.values()) == pytest.approx([3.2, 0.0])


@pytest.mark.parametrize("count", [perf.per_buffer, perf.per_request])
def test_what_cannot_be_counted_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Callable[[], object]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no valgrind >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(VmError, match=r"per-.* ended with 1: no valgrind"):
        count()

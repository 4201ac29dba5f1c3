"""Replayed ring contents, and the costs that are measured on them: what arrives, not how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx.bench.plan import BenchError
from pyzcrx.uapi import OFFSET_MASK
from tests.perf import bare, callgrind, flame, per_request, ways
from tests.perf.per_buffer import command
from tests.perf.replay import MOST, Replay

LENGTHS = (PAGE, PAGE, 756)


def marked(replay: Replay) -> None:
    """Every buffer's first byte says which it is."""
    view = replay.area.view
    for i, off in enumerate(replay.offs):
        view[off] = i % 251


@settings(deadline=None, max_examples=25)
@given(
    per_turn=st.integers(1, 300),
    turns=st.integers(1, 12),
    lengths=st.lists(st.integers(1, PAGE), min_size=1, max_size=5),
    fills=st.integers(1, 4),
)
def test_every_completion_arrives_as_it_was_written(
    per_turn: int, turns: int, lengths: list[int], fills: int
) -> None:
    if not 2 <= per_turn * turns <= MOST:
        return
    with Replay(per_turn=per_turn, turns=turns, lengths=lengths) as replay:
        marked(replay)
        for _ in range(fills):
            replay.fill()
            seen = []
            for event in replay.ring.events():
                match event:
                    case pyzcrx.Data(request=request, buffer=buffer):
                        assert request is replay.request
                        with buffer.view() as view:
                            seen.append((buffer.off, len(view), view[0]))
                        buffer.release()
                    case pyzcrx.Limit():
                        break
                    case other:
                        pytest.fail(f"unexpected {other}")
            firsts = [i % 251 for i in range(replay.buffers)]
            assert seen == list(zip(replay.offs, replay.lengths, firsts, strict=True))
            assert replay.take_refill() == replay.offs
        replay.ifq.audit()


def test_the_columns_sums_agree_and_turns_are_as_large_as_asked() -> None:
    with Replay(per_turn=64, turns=4, lengths=LENGTHS) as replay:
        replay.fill()
        sizes, offs, turns = 0, [], []
        for batch in replay.ring.batches():
            assert batch.size_bytes == sum(batch.lengths)
            assert sum(run.size_bytes for run in batch.runs()) == batch.size_bytes
            sizes += batch.size_bytes
            offs += [off & OFFSET_MASK for off in batch.offs]
            turns.append(len(batch))
            batch.release()
        assert (sizes, offs, turns) == (replay.size_bytes, replay.offs, [64, 64, 64, 63])
        assert replay.take_refill() == replay.offs


def test_a_buffer_that_does_not_come_back_is_noticed() -> None:
    with Replay(per_turn=8) as replay:
        replay.fill()
        held = [e.buffer for e in replay.ring.events() if isinstance(e, pyzcrx.Data)]
        for buffer in held[1:]:
            buffer.release()
        with pytest.raises(pyzcrx.errors.CorruptRing, match="6 buffers came back"):
            replay.take_refill()


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_turn": 0},
        {"turns": 0},
        {"per_turn": 1},
        {"per_turn": 4096, "turns": 5},
        {"per_turn": 4097, "turns": 2},
        {"lengths": ()},
        {"lengths": (0,)},
        {"lengths": (PAGE + 1,)},
        {"connections": 0},
        {"per_turn": 8, "connections": 9},
        {"per_turn": 8, "connections": 5},
    ],
)
def test_what_cannot_be_replayed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument):
        Replay(**wrong)


def test_a_bare_ring_needs_room_and_powers_of_two() -> None:
    raw = ffi.gc(lib.pz_ring_new(), lib.pz_ring_free)
    size_bytes = lib.pz_ring_bytes(8, 16)
    mapping = Mapping.anonymous(size_bytes)
    for sq, cq, room in (0, 16, size_bytes), (8, 15, size_bytes), (8, 16, size_bytes - 1):
        assert bare.lay_out(raw, sq, cq, mapping.address, room) < 0
    assert bare.lay_out(raw, 8, 16, mapping.address, size_bytes) == 0
    assert lib.pz_ring_fd(raw) == -1
    for token in range(100):  # its SQ never fills
        assert lib.pz_prep_recv_zc(raw, 3, 0, 0, token) == 0
    mapping.close()


@pytest.mark.parametrize("connections", [1, 7])
@pytest.mark.parametrize("name", ways.WAYS)
def test_every_way_receives_all_of_it(name: str, connections: int) -> None:
    calls = 0

    def measure(way: Callable[[], None]) -> int:
        nonlocal calls
        calls += 1
        way()
        return calls

    with ways.replay_of(100, LENGTHS, connections) as replay:
        work = ways.Work.of(replay)
        for _ in range(2):
            assert ways.receive(work, name, measure) == calls
        expected = 0 if name == ways.UNIT else 2 * replay.size_bytes
        assert replay.ifq.total_bytes == expected
        assert replay.ifq.audit().in_buffers == 0
    assert calls == 2


def test_a_way_that_stops_early_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ways.WAYS, "columns", lambda work: work.replay.ring.wait(0).release())
    with (
        ways.replay_of(100, LENGTHS) as replay,
        pytest.raises(BenchError, match="columns received"),
    ):
        ways.receive(ways.Work.of(replay), "columns", ways.time_ns)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, ["--rounds", "2", *arguments])


def test_the_command_tells_json() -> None:
    done = run("--per-turn", "16", "--per-turn", "256", "--lengths", "4096,756", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told) == {"setup", "goals", "costs"}
    assert set(told["setup"]) == {
        "cpu",
        "kernel",
        "python",
        "pyzcrx",
        "rounds",
        "lengths",
        "connections",
    }
    assert told["setup"]["lengths"] == [4096, 756]
    assert list(told["costs"]) == ["16", "256"]
    for costs in told["costs"].values():
        assert list(costs) == list(ways.WAYS)
        assert costs[ways.UNIT]["slices"] == 1
        for cost in costs.values():
            assert set(cost) == {"ns", "ns_least", "slices", "slices_of_leasts"}
            assert all(figure > 0 for figure in cost.values())


def test_the_table_is_readable_at_100_columns() -> None:
    text = run().stdout
    assert max(map(len, text.splitlines())) <= 100
    for name in ways.WAYS:
        assert any(line.startswith(name) for line in text.splitlines())
    [goal] = [line.split()[-1] for line in text.splitlines() if line.startswith("buffers ")]
    assert goal == "6.0"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--lengths", "4096,x"], 2, "no list of bytes"),
        (["--lengths", "8192"], 2, "no list of bytes"),
        (["--per-turn", "1"], 2, "not in the range"),
        (["--profile", "columns"], 1, "give --instructions"),
        (["--instructions", "--flame", "turn.svg"], 1, "give --profile"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], status: int, said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == status
    assert said in done.output


def test_without_valgrind_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = run("--per-turn", "256", "--instructions")
    assert done.exit_code == 1
    assert "valgrind" in done.output


CALLGRIND = """version: 1
part: 2
events: Ir
summary: 1110

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) _PyEval_EvalFrameDefault
12 100
+3 200
cob=(2) /site-packages/pyzcrx/_lease.abi3.so
cfi=(2) lease.c
cfn=(2) lease_release
calls=5 40
* 810

ob=(2)
fl=(2)
fn=(2)
-4 700
fi=(3) refill.c
7 10
cob=(3) /lib/libc.so.6
cfn=(3) memcpy
calls=1 0
7 100

ob=(3)
fn=(3)
0 100
"""


def test_instructions_are_each_counted_where_they_ran() -> None:
    found = callgrind.parse(CALLGRIND)
    assert {(Path(binary).name, function): n for (binary, function), n in found.items()} == {
        ("libpython3.11.so.1.0", "_PyEval_EvalFrameDefault"): 300,
        ("_lease.abi3.so", "lease_release"): 710,
        ("libc.so.6", "memcpy"): 100,
    }
    counts = callgrind.Counts(found, buffers=10, size_bytes=1 << 20)
    assert counts.as_dict() == {
        "shim": 71,
        "cffi": 0,
        "python": 30,
        "other": 10,
        "total": 111,
        "total_per_mib": 1110,
    }
    assert next(counts.functions()).split() == ["71.0", "lease_release", "(_lease.abi3.so)"]


def test_instructions_as_a_table() -> None:
    counts = callgrind.Counts(Counter({("python3", "f"): 10}), 1, PAGE).as_dict()
    lines = list(callgrind.table("256", dict.fromkeys(ways.WAYS, counts), ways.GOALS))
    assert max(map(len, lines)) <= 100
    assert lines[3].split()[-2:] == ["goal", "0.1"]


def test_a_flame_graph_is_as_wide_as_each_call() -> None:
    assert flame.stack_of("leaf.lto_priv.0'2'0x1ab'main@@V_2'2") == ("main", "?", "leaf")
    counted = {("lib", "main"): 1, ("lib", "turn'main"): 700, ("lib", "drain'turn'main"): 300}
    root = flame.single(flame.tree(counted, {"turn": "shim"}))
    assert (root.name, root.total, root.part) == ("main", 1001, "other")
    [turn] = root.callees.values()
    assert (turn.name, turn.total, turn.part) == ("turn", 1000, "shim")
    drawn = ElementTree.fromstring(flame.svg(root, 10, "a < b"))
    widths = [float(each.attrib["width"]) for each in drawn.iter() if each.tag.endswith("rect")]
    assert widths == [pytest.approx(flame.WIDTH * n / 1001, abs=0.1) for n in (1001, 1000, 300)]
    told = [each.text for each in drawn.iter() if each.tag.endswith("title")]
    assert told[1] == "turn: 100 instructions a turn"


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    counts = callgrind.Counts(Counter({("python3", "f"): 10}), 1, PAGE)
    flame.of_turn("columns", 256, counts, tmp_path / "turn.svg")
    assert "<svg" in (tmp_path / "turn.svg").read_text()
    with pytest.raises(BenchError, match="No such file or directory"):
        flame.of_turn("columns", 256, counts, tmp_path / "none" / "turn.svg")


def test_the_profile_adds_up_a_function_s_callers() -> None:
    counted = Counter({("lib", "f'a"): 1, ("lib", "f'2'b"): 2, ("lib", "g"): 1})
    lines = list(callgrind.Counts(counted, 1, PAGE).functions())
    assert [line.split()[:2] for line in lines] == [["3.0", "f"], ["1.0", "g"]]


def test_valgrind_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valgrind = tmp_path / "valgrind"
    valgrind.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    valgrind.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="valgrind ended with 3: broken"):
        callgrind.count(256, LENGTHS)


def test_a_request_begins_and_ends_between_marks() -> None:
    marks: list[None] = []
    per_request.measure(lambda: marks.append(None))
    assert len(marks) == 2 * len(per_request.NAMES)


def test_what_valgrind_runs_marks_every_way(tmp_path: Path) -> None:
    """Without valgrind: os.getppid() says where each begins and ends."""
    script = tmp_path / "counting.py"
    script.write_text(
        "import os, sys, runpy\n"
        "calls = []\n"
        "os.getppid = lambda: calls.append(1)\n"
        "sys.argv = ['x', '256', '[4096]', '1']\n"
        f"runpy.run_path({callgrind.__file__!r}, run_name='__main__')\n"
        "print(len(calls))\n"
    )
    told = subprocess.run(
        [sys.executable, "-P", str(script)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(told[0]) == [MOST - 1, (MOST - 1) * PAGE]
    assert int(told[1]) == 2 * len(ways.WAYS)

"""Work beside the caller's, and tiers that run so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vm import tiers
from vm.errors import VmError
from vm.lane import Lane, Place
from vm.tiers import Result


def test_it_runs_beside_and_its_output_waits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)

    def work() -> list[int]:
        print("started")
        os.system("echo from a child")
        go.read_text()
        print("x" * 3_000_000)
        return [os.getpid()]

    lane = Lane(work)
    go.write_text("now")  # returns once the other side reads: it runs
    assert capfd.readouterr().out == ""
    assert lane.result() != [os.getpid()]
    out = capfd.readouterr().out
    assert "from a child" in out
    assert len(out) > 3_000_000


def test_what_it_raises_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ValueError("no good")

    with pytest.raises(VmError, match="status 1"):
        Lane(work).result()
    assert "ValueError: no good" in capfd.readouterr().out


def test_one_that_is_killed_is_no_success() -> None:
    lane = Lane(lambda: time.sleep(60))
    os.kill(lane._pid, 9)
    with pytest.raises(VmError, match="status -9"):
        lane.result()


def test_one_that_nobody_asks_is_ended() -> None:
    with Lane(lambda: time.sleep(600)) as lane:
        pid = lane._pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_lost_lane_fails_its_tier_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def tier(result: Result, _arguments: object, _kernel: object) -> None:
        if result.tier == "nodev":
            os._exit(3)
        result.passed = 2

    monkeypatch.setattr(tiers, "TIERS", dict.fromkeys(("unit", "nodev", "sim"), tier))
    assert not tiers.run_tiers(["unit", "nodev", "sim"], ())
    out = capfd.readouterr().out
    assert "broke off, with status 3" in out
    assert out.splitlines()[-1] == "4 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("bad", ["unit", "sim"])
def test_tiers_in_both_lanes_are_judged_together(
    bad: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def tier(result: Result, _arguments: object, _kernel: object) -> None:
        result.passed = 2
        result.failed = int(result.tier == bad)

    monkeypatch.setattr(tiers, "TIERS", dict.fromkeys(("unit", "nodev", "sim"), tier))
    assert not tiers.run_tiers(["unit", "nodev", "sim"], ())
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-4:-1]] == [
        [name, "FAILED" if name == bad else "ok"] for name in ("unit", "nodev", "sim")
    ]
    assert lines[-1] == "6 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("names", [("unit", *tiers.IN_GUEST), tiers.IN_GUEST])
def test_no_more_than_two_tiers_run_at_a_time(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def tier(result: Result, _arguments: object, _kernel: object) -> None:
        for when in "+", "-":
            with log.open("a") as file:
                file.write(f"{when}{result.tier}\n")
            if when == "+":
                time.sleep(0.5)
        result.passed = 1

    monkeypatch.setattr(tiers, "TIERS", dict.fromkeys(names, tier))
    assert tiers.run_tiers(names, ())
    running: set[str] = set()
    together = set()
    for line in log.read_text().split():
        (running.add if line[0] == "+" else running.remove)(line[1:])
        together.add(frozenset(running))
    assert max(map(len, together)) == 2
    assert frozenset().union(*together) == set(names)


def test_a_place_is_free_once_its_holder_is_dead(tmp_path: Path) -> None:
    def hold() -> None:
        Place(str(tmp_path), "one").__enter__()
        os._exit(3)

    with pytest.raises(VmError, match="broke off"):
        Lane(hold).result()
    with Place(str(tmp_path), "one"):
        pass

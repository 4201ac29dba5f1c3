"""``zcrx-bench``: what was measured is told, whatever happens then."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyzcrx.bench import plot
from pyzcrx.bench.pinning import Pinning
from pyzcrx.bench.plan import BenchError
from pyzcrx.cli import bench
from tests.unit import reports

RECEIVERS = ("recv_into-64K", "recv_into-1M")
ROUNDS = 3
Bench = Callable[..., Result]


def nothing() -> None:
    """Happens."""


class Runs:
    """Runs that only pretend; before the one numbered *at* something happens."""

    at = -1
    happens: Callable[[], None] = staticmethod(nothing)
    begun = 0

    def __init__(self, *_: Any) -> None:
        type(self).begun = 0

    def runs(self, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names * ROUNDS:
            if Runs.begun == Runs.at:
                Runs.happens()
            Runs.begun += 1
            yield name, reports.run()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(bench, "Rounds", Runs)
    monkeypatch.setattr(Runs, "begun", 0)
    monkeypatch.setattr(Pinning, "pin_interrupts", lambda *_: None)

    def invoke(
        *options: str, at: int = -1, happens: Callable[[], None] = nothing, json: bool = True
    ) -> Result:
        monkeypatch.setattr(Runs, "at", at)
        monkeypatch.setattr(Runs, "happens", staticmethod(happens))
        argv = [*options, "--rounds", str(ROUNDS), *(["--json"] if json else [])]
        for name in RECEIVERS:
            argv += ["-r", name]
        return CliRunner().invoke(bench.main, argv)

    return invoke


def rounds(result: Result) -> int:
    """How many are in the report that was printed."""
    told = json.loads(result.stdout)
    (n,) = {len(runs) for runs in told["runs"].values()}
    assert set(told["runs"]) == set(RECEIVERS)
    assert (f"ended after {n} of {ROUNDS} rounds" in told["problems"]) == (n < ROUNDS)
    return n


def test_all_rounds(run: Bench) -> None:
    result = run()
    assert (result.exit_code, rounds(result)) == (0, ROUNDS)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def fail() -> None:
    raise BenchError("the receiver\nfell over")


@pytest.mark.parametrize(("happens", "said"), [(interrupt, "Aborted!"), (fail, r"the receiver\n")])
@pytest.mark.parametrize(("at", "finished"), [(2, 1), (3, 1), (5, 2)])
def test_finished_rounds_are_told(
    run: Bench, happens: Callable[[], None], said: str, at: int, finished: int
) -> None:
    result = run(at=at, happens=happens)
    assert (result.exit_code, rounds(result)) == (1, finished)
    assert said in result.stderr.splitlines()[-1]
    as_table = run(at=at, happens=happens, json=False)
    assert f"ended after {finished} of {ROUNDS} rounds" in as_table.stdout


@pytest.mark.parametrize("happens", [interrupt, fail])
@pytest.mark.parametrize("at", [0, 1])
def test_without_a_finished_round_there_is_no_report(
    run: Bench, happens: Callable[[], None], at: int
) -> None:
    result = run(at=at, happens=happens)
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_machine_that_cannot_be_put_back_loses_no_report(
    run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pinning, "restore", lambda _: fail())
    result = run()
    assert (result.exit_code, rounds(result)) == (1, ROUNDS)


@pytest.mark.parametrize("raised", [BenchError("no"), ValueError("no"), MemoryError()])
def test_a_picture_that_fails_loses_no_report(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: Exception
) -> None:
    def draw(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(plot, "pyplot", lambda: None)
    monkeypatch.setattr(plot, "draw", draw)
    result = run("--plot", f"{tmp_path}/x.png")
    assert (result.exit_code, rounds(result)) == (1, ROUNDS)
    assert result.stderr.splitlines()[-1].startswith("zcrx-bench: ")


def test_without_matplotlib_nothing_is_run(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--plot", f"{tmp_path}/x.png")
    assert (result.exit_code, result.stdout, Runs.begun) == (1, "", 0)
    assert result.stderr.count("\n") == 1
    assert "pip install 'pyzcrx[bench]'" in result.stderr


@pytest.mark.parametrize("path", ["", "{here}", "{here}/no/x.png", "{here}/x.pdf", "/proc/x.png"])
def test_a_picture_that_cannot_be_written_is_refused_first(
    run: Bench, tmp_path: Path, path: str
) -> None:
    result = run("--plot", path.format(here=tmp_path))
    assert (result.exit_code, result.stdout, Runs.begun) == (2, "", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_there_stays_until_the_new_one(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "x.png").write_bytes(b"old")
    assert run("--plot", f"{tmp_path}/x.png").exit_code == 1
    assert (tmp_path / "x.png").read_bytes() == b"old"


def test_reports_that_are_none(tmp_path: Path) -> None:
    deep, shape, run = tmp_path / "deep", tmp_path / "shape", tmp_path / "run"
    deep.write_text("[" * 100_000)
    shape.write_text('{"format": 1, "setup": [], "versions": 5, "runs": {"c": [{}]}}')
    told = json.loads(reports.report().to_json())
    run.write_text(json.dumps(told | {"runs": {"c": [{"bytes": 0, "seconds": 0}]}}))
    for path in (deep, shape, run, Path("/dev/zero"), tmp_path, tmp_path / "none"):
        done = CliRunner().invoke(bench.main, ["compare", str(path), str(path)])
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1
        assert "internal error" not in done.stderr

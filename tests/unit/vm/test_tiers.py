"""How the tiers are judged: what counts as a pass, a failure, an unasked-for skip."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vm import stop, tiers
from vm.errors import BuildFailed
from vm.stop import Stopped, stoppable
from vm.tiers import Result

JUNIT = """<testsuites><testsuite>
<testcase name="good"/>
<testcase name="bad"><failure message="no"/></testcase>
<testcase name="broken"><error message="no"/></testcase>
<testcase name="xfailing"><skipped type="pytest.xfail" message=""/></testcase>
<testcase name="asked"><skipped type="pytest.skip" message="expected: no card"/></testcase>
<testcase name="silent"><skipped type="pytest.skip" message="felt like it"/></testcase>
</testsuite></testsuites>"""


def read(tmp_path: Path, junit: str | None, status: int = 0) -> Result:
    result = Result("unit")
    path = tmp_path / "junit.xml"
    if junit is not None:
        path.write_text(junit)
    result.read(path, status)
    return result


def test_counts(tmp_path: Path) -> None:
    result = read(tmp_path, JUNIT)
    assert (result.passed, result.failed) == (2, 2)
    assert result.skipped == [("asked", "expected: no card"), ("silent", "felt like it")]
    assert result.unasked == [("silent", "felt like it")]
    assert not result.ok


@pytest.mark.parametrize(
    ("cases", "ok"),
    [
        ('<testcase name="a"/>', True),
        ("", False),
        ('<testcase name="a"/><testcase name="b"><failure/></testcase>', False),
        ('<testcase name="a"/><testcase name="b"><skipped message="expected: "/></testcase>', True),
        ('<testcase name="a"/><testcase name="b"><skipped message="x"/></testcase>', False),
    ],
)
def test_ok(tmp_path: Path, cases: str, ok: bool) -> None:
    assert read(tmp_path, f"<testsuites>{cases}</testsuites>").ok is ok


@pytest.mark.parametrize("status", [2, 3, 130, -9])
def test_a_run_that_broke_off_is_no_pass(tmp_path: Path, status: int) -> None:
    result = read(tmp_path, JUNIT.replace("failure", "ok").replace("error", "ok"), status)
    assert f"status {status}" in result.trouble
    assert not result.ok


def test_no_report_is_trouble(tmp_path: Path) -> None:
    result = read(tmp_path, None)
    assert result.trouble == "pytest wrote no report"
    assert not result.ok


def test_the_sums_are_last_and_count_a_tier_that_broke_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(result: Result, arguments: object, _kernel: object) -> None:
        assert arguments == ("-k", "x")
        result.passed = 3

    def broken(_result: Result, _arguments: object, _kernel: object) -> None:
        raise BuildFailed("no guest", ["why"])

    monkeypatch.setattr(tiers, "TIERS", {"good": good, "broken": broken})
    assert tiers.run_tiers(["good"], ("-k", "x"))
    assert not tiers.run_tiers(["good", "broken"], ("-k", "x"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "3 passed, 1 failed, 0 skipped"
    assert "  | why" in lines
    assert any("no guest" in line for line in lines)


def test_parts_of_a_tier_add_up_and_one_that_breaks_off_fails_it() -> None:
    def good(result: Result, _arguments: object, _kernel: object) -> None:
        result.passed, result.skipped = 2, [("a", "expected: b")]

    def nothing_chosen(result: Result, _arguments: object, _kernel: object) -> None:
        assert not result.passed

    def broken(_result: Result, _arguments: object, _kernel: object) -> None:
        raise BuildFailed("no guest", ["why"])

    result = Result("sim")
    tiers.beside_each_other(good, nothing_chosen, good)(result, (), None)
    assert result.ok
    assert (result.passed, len(result.skipped)) == (4, 2)
    tiers.beside_each_other(good, broken)(result, (), None)
    assert not result.ok
    assert result.trouble == "no guest"


def test_no_test_chosen_in_a_part_is_no_trouble(tmp_path: Path) -> None:
    result = read(tmp_path, "<testsuites/>", 5)
    assert not result.trouble
    assert not result.ok  # but is no pass either


def failing_guest() -> None:
    """What is undone fails, too: the guest was ended by the same signal."""
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise BuildFailed("the guest is lost")


class Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("strikes", [failing_guest, Finalized])
def test_after_sigterm_no_tier_begins(
    strikes: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the exception of the signal is lost, too."""
    begun = []

    def struck(result: Result, _arguments: object, _kernel: object) -> None:
        begun.append(result.tier)
        strikes()

    monkeypatch.setattr(tiers, "TIERS", {"unit": struck, "host": struck})
    with pytest.raises(Stopped) as caught, stoppable():
        tiers.run_tiers(["unit", "host"], ())
    assert begun == ["unit"]
    assert caught.value.exit_code == 128 + signal.SIGTERM
    stop.check()  # the next one is not stopped

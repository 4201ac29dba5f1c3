"""``zcrx-doctor`` over facts as data: what it prints, what it changes, its status."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.cli import doctor
from pyzcrx.doctor import Facts, Finding, Fix, Severity, Wanted
from tests.unit.doctor.facts import facts, on_card, rings

SPLIT_OFF = facts(card=on_card(rings=rings(tcp_data_split=False)))
ASK_SPLIT = "ethtool -G eth0 tcp-data-split on"

Run = Callable[..., Result]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Fix]:
    """What --fix did."""
    done: list[Fix] = []
    monkeypatch.setattr(doctor, "apply", lambda fix, _ifindex: done.append(fix))
    return done


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, applied: list[Fix]) -> Run:
    """The command, on those facts; once it has changed something, on sound ones."""

    def invoke(of: Facts, *argv: str, answer: str = "") -> Result:
        monkeypatch.setattr(doctor, "read", lambda *_: facts() if applied else of)
        return CliRunner().invoke(doctor.main, argv, input=answer)

    return invoke


def test_ready(run: Run) -> None:
    result = run(facts(), "-i", "eth0")
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "zcrx-doctor: eth0 (zcrxsim), queue 3"
    assert result.output.splitlines()[-1] == "ready: 1 unknown"
    assert "\x1b" not in result.output


def test_not_ready(run: Run) -> None:
    result = run(SPLIT_OFF, "-i", "eth0")
    assert result.exit_code == 1
    assert f"         hint {ASK_SPLIT}\n" in result.output
    assert result.output.splitlines()[-1] == "not ready: 1 problem"


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_fits_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run(SPLIT_OFF, "-i", "eth0").output.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)


def test_json(run: Run) -> None:
    result = run(SPLIT_OFF, "-i", "eth0", "--json")
    assert result.exit_code == 1
    said = json.loads(result.output)
    assert (said["interface"], said["queue"], said["ready"]) == ("eth0", 3, False)
    (split,) = (f for f in said["findings"] if f["id"] == "card.split")
    assert split["severity"] == "problem"
    assert split["hint"] == ASK_SPLIT
    assert split["fix"]["key"] == "tcp-data-split"


@pytest.mark.parametrize(
    "argv",
    [
        ("-q", "1"),
        ("--flow", "tcp4 dst *:1"),
        ("--yes",),
        ("--fix", "--json"),
        ("-q", "-1"),
        ("--area", "much"),
        ("--nonsense",),
    ],
)
def test_wrong_command_lines(run: Run, argv: tuple[str, ...]) -> None:
    assert run(facts(), *argv).exit_code == 2


def test_a_flow_that_is_none(run: Run) -> None:
    result = run(facts(), "-i", "eth0", "--flow", "everything")
    assert result.exit_code == 1
    assert "is no flow" in result.output
    assert len(result.output.splitlines()) == 1


def test_no_such_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> Facts:
        raise kernel_error(19, "find interface", "nosuch0")

    monkeypatch.setattr(doctor, "read", read)
    result = CliRunner().invoke(doctor.main, ["-i", "nosuch0"])
    assert result.exit_code == 1
    assert "ENODEV" in result.output


def test_nothing_is_changed_unless_asked(run: Run, applied: list[Fix]) -> None:
    run(SPLIT_OFF, "-i", "eth0")
    assert not applied
    result = run(SPLIT_OFF, "-i", "eth0", "--fix", answer="n\n")
    assert not applied
    assert result.exit_code == 1


@pytest.mark.parametrize(("more", "answer"), [((), "y\n"), (("--yes",), "")])
def test_fix_says_it_first(
    run: Run, applied: list[Fix], more: tuple[str, ...], answer: str
) -> None:
    result = run(SPLIT_OFF, "-i", "eth0", "--fix", *more, answer=answer)
    assert [fix.command for fix in applied] == [ASK_SPLIT]
    assert f"fix: {ASK_SPLIT}" in result.output
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith("ready")


def test_fix_by_json(run: Run) -> None:
    result = run(SPLIT_OFF, "-i", "eth0", "--fix", "--yes", "--json")
    assert json.loads(result.stdout)["fixed"] == [ASK_SPLIT]


def test_trial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = Finding("trial", Severity.OK, "a registration works")
    monkeypatch.setattr(doctor, "try_out", lambda *_: worked)
    assert "a registration works" not in run(facts(), "-i", "eth0").output
    result = run(facts(), "-i", "eth0", "--trial")
    assert "ok       a registration works\nready\n" in result.output


def test_the_machine_alone(run: Run) -> None:
    result = run(facts(card=None, wanted=Wanted(), drivers={"eth0": "bnxt_en"}))
    assert result.exit_code == 0
    assert "zcrx-doctor: this machine" in result.output
    assert "zcrx-doctor -i eth0" in result.output

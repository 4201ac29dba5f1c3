"""``zcrx-doctor --report``: what is in it, and that nobody is named in it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from click.testing import CliRunner

from pyzcrx.cli import doctor as command
from pyzcrx.doctor import Facts, Finding, Severity, Wanted, examine, shared
from pyzcrx.doctor.facts import Leftover, RingUser
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.state import Rule
from tests.pages import PAGES
from tests.unit.doctor.facts import facts, on_card

DAY = datetime.date(2026, 11, 28)
HOST = "vault.example.net"
ADDRESS = "203.0.113.77"
NAME = "uplink-berlin"
PROGRAM = "secretd"
SECRETS = (HOST, "vault", ADDRESS, NAME, PROGRAM)
FLOW = f"tcp4 dst {ADDRESS}:4444"
OF_THE_MAKER = {"driver", "firmware", "device", "product", "liburing", "transparent_huge"}
"""Texts that no user of the machine chose."""
OF_A_FORM = {"cpus", "effective_cpus", "state"}
"""Texts that the checks read: numbers of CPUs, a journal's state."""


def everything() -> Facts:
    """A NIC and machine with something in every place."""
    card = replace(
        on_card(
            rules=(Rule(0, 3, None, FLOW, "00"), Rule(1, 3, None, None, "00")),
            unread=(f"read rss ({NAME}): EPERM",),
        ),
        ring_users=(RingUser(7, PROGRAM, True),),
        leftovers=(Leftover("7-1", 7, (3,), 2, "stale"),),
        device="1ae0:0042",
    )
    wanted = Wanted(queue=3, flow=Flow.parse(FLOW))
    return facts(card=card, wanted=wanted, probe={"kernel": f"7.3.4-{HOST}"})


def planted(value: Any, name: str = "") -> Any:
    """The same data with secrets in every text that is not the maker's, found by introspection."""
    if isinstance(value, str) and not isinstance(value, Enum):
        if name in OF_THE_MAKER | OF_A_FORM:
            return value
        if name == "flow":
            return FLOW
        if name == "interface":
            return NAME
        if name == "kernel":
            return f"7.3.4-{HOST}"
        if name == "config_source":
            return f"/boot/config-7.3.4-{HOST}"
        if name == "unread":
            return f"read rss ({NAME}): EPERM"
        return f"{PROGRAM} {ADDRESS} {HOST} {NAME}"
    if isinstance(value, tuple):
        return tuple(planted(item, name) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, Flow)):
        return replace(
            value, **{f.name: planted(getattr(value, f.name), f.name) for f in fields(value)}
        )
    return value


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from texts(item)
    elif is_dataclass(value):
        for f in fields(value):
            yield from texts(getattr(value, f.name))


def report(of: Facts) -> str:
    hidden = shared.anonymous(of, HOST)
    return shared.text(hidden, examine(hidden), DAY)


def test_no_secret_of_any_place_is_told() -> None:
    of = planted(everything())
    everywhere = "\n".join(texts(of))
    for secret in SECRETS:
        assert secret in everywhere
        assert secret not in report(of)
    assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b", report(of))
    assert "4444" not in report(of)


@pytest.mark.parametrize("host", ["vault.example.net", "vault", "VAULT", ""])
def test_a_host_name_in_the_kernels(host: str) -> None:
    of = facts(probe={"kernel": f"7.3.4-{host.lower() or 'amd64'}"})
    hidden = shared.anonymous(of, host)
    assert hidden.kernel.probe.kernel == ("7.3.4-HOST" if host else "7.3.4-amd64")


def test_a_host_name_within_a_word_is_none() -> None:
    of = facts(probe={"kernel": "7.3.4-vaults"})
    assert shared.anonymous(of, "vault").kernel.probe.kernel == "7.3.4-vaults"


def test_what_a_reader_wants_is_in_it() -> None:
    said = report(everything())
    for part in (
        "driver zcrxsim, device 1ae0:0042, firmware 1.0",
        "combined 4 of 8, rx 0 of 0",
        "rx 512 of 4096",
        "header split   on, hds-thresh 0",
        "rx-ntuple-filter on",
        "card.driver",
        "rules          2",
    ):
        assert part in said
    assert re.search(r"^ok +kernel.zcrx +Linux 7.3.4-HOST has zcrx$", said, re.M)
    assert "steering." not in said


def test_the_row_has_the_columns_of_the_page() -> None:
    page = (PAGES / "docs/reference/nics-seen.md").read_text()
    header = "| " + " | ".join(shared.COLUMNS) + " |"
    assert header in page
    row = report(everything()).splitlines()[-1]
    assert row.count("|") == header.count("|")
    assert row.startswith("| 2026-11-28 | zcrxsim | 1ae0:0042 | 1.0 | unknown | 7.3.4-HOST | 4 |")
    assert row.endswith("| on | not tried |")


def test_a_field_with_a_bar_keeps_the_columns() -> None:
    row = report(facts(card=on_card(firmware="a|b"))).splitlines()[-1]
    assert row.count("|") == len(shared.COLUMNS) + 1


def test_a_trial_is_in_it() -> None:
    hidden = shared.anonymous(facts(), HOST)
    trial = Finding("trial", Severity.OK, "a registration works (IF, queue 3)")
    said = shared.text(hidden, [*examine(hidden), trial], DAY)
    assert said.splitlines()[-1].endswith("| ok |")
    assert "a registration works" in said


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read", lambda *_: everything())
    result = CliRunner().invoke(command.main, ["-i", NAME, "--report"])
    assert result.exit_code in (0, 1)
    assert ADDRESS not in result.output
    assert result.output.splitlines()[-1].startswith("| ")


@pytest.mark.parametrize(
    "argv",
    [("--report",), ("-i", "eth0", "--report", "--json"), ("-i", "eth0", "--report", "--fix")],
)
def test_wrong_command_lines(monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]) -> None:
    monkeypatch.setattr(command, "read", lambda *_: everything())
    assert CliRunner().invoke(command.main, argv).exit_code == 2

"""Rules that a set-up made and that are gone, as after a reset of the device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyzcrx.doctor import Finding, Severity, examine
from pyzcrx.doctor.facts import Leftover
from pyzcrx.nic.state import Rule
from pyzcrx.nic.steps import Steer
from tests.unit.doctor.facts import facts, on_card
from tests.unit.nic.cards import QUEUES

LAST = QUEUES - 1


@pytest.mark.parametrize(("state", "whose"), [("live", "process 7"), ("kept", "zcrx-nic setup")])
def test_rules_that_are_gone(state: str, whose: str) -> None:
    """Those of a set-up that is in force: others are to be gone."""
    made = Steer("tcp4 dst 192.0.2.1:9999", LAST, location=5)
    there = Rule(5, LAST, None, made.flow, "")

    def found(rules: tuple[Rule, ...] | None, *steps: Steer, state: str = state) -> list[Finding]:
        leftover = Leftover("7-1", 7, (LAST,), 3, state, steps)
        card = replace(on_card(rules=rules), leftovers=(leftover,))
        return [f for f in examine(facts(card=card)) if f.id == "journal.rule"]

    (gone,) = found((), made)
    assert gone.severity is Severity.WARNING
    assert gone.what == f"the rule of {whose} for {made.flow} is gone"
    assert gone.hint == (
        f"ethtool -N eth0 flow-type tcp4 dst-ip 192.0.2.1 dst-port 9999 action {LAST} loc 5"
    )
    assert found((there,), made) == []
    assert len(found((replace(there, queue=0),), made)) == 1
    assert found((), replace(made, location=None)) == []
    assert found(None, made) == []
    assert found((), made, state="stale") == []


def test_rules_that_cannot_be_read_are_not_taken_for_none() -> None:
    """As of a device that does not answer its driver."""
    found = next(f for f in examine(facts(card=on_card(rules=None))) if f.id == "steering.ntuple")
    assert found.severity is Severity.PROBLEM
    assert "cannot be read" in found.what
    assert "ethtool --reset eth0 all" in found.hint


@pytest.mark.parametrize(("driver", "told"), [("gve", True), ("bnxt_en", False)])
def test_what_a_reset_does_is_told_of_drivers_that_are_known_for_it(
    driver: str, told: bool
) -> None:
    rule = Steer("tcp4 dst 192.0.2.1:9999", LAST, location=5)
    leftover = Leftover("7-1", 7, (LAST,), 3, "live", (rule,))
    card = replace(on_card(driver=driver, rules=()), leftovers=(leftover,))
    (gone,) = [f for f in examine(facts(card=card)) if f.id == "journal.rule"]
    assert ("a reset of the device" in gone.why) is told

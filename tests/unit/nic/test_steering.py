"""Flows that are added to a set-up and taken back, on a card in memory whose rules fail."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyzcrx import errors
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.nic import Flow, NicWarning, Rule, Setup, Wanted
from pyzcrx.nic.steering import one_connection
from tests.unit.nic import test_setup
from tests.unit.nic.test_setup import QUEUE, RESTORE, STATE, STEPS, UNTOUCHED, Kernel, journals

STEERING = sys.modules["pyzcrx.nic.steering"]
NTUPLE = "feature:rx-ntuple-filter"
ONE = "tcp4 dst 192.0.2.1:40000 src 198.51.100.7:443"
OTHER = "tcp6 dst [2001:db8::1]:40000 src [2001:db8::7]:443"

kernel_of_a_setup, folder = test_setup.kernel, test_setup.folder


class Rules:
    """The rules of a card; *refuses* an errno, of insertion and of removal."""

    def __init__(self) -> None:
        self.present: dict[int, Rule] = {}
        self.refuses = {"insert": 0, "delete": 0}
        self.loses = False

    def __call__(self, _ifindex: int) -> Rules:
        return self

    def driver(self) -> tuple[str | None, str | None, str | None]:
        return STATE.driver, STATE.firmware, STATE.bus

    def rules(self) -> tuple[tuple[Rule, ...], int] | None:
        return tuple(self.present.values()), 16

    def insert(self, flow: Flow, *, queue: int = 0, context: int | None = None) -> int:
        if self.refuses["insert"]:
            raise kernel_error(self.refuses["insert"], "insert rule", str(flow))
        location = next(i for i in reversed(range(16)) if i not in self.present)
        if not self.loses:
            self.present[location] = Rule(location, queue, context, str(flow), "")
        return location

    def delete(self, location: int) -> None:
        if self.refuses["delete"]:
            raise kernel_error(self.refuses["delete"], "delete rule", str(location))
        del self.present[location]

    @property
    def flows(self) -> list[str | None]:
        return [rule.flow for rule in self.present.values()]


@pytest.fixture
def kernel(kernel_of_a_setup: Kernel) -> Kernel:
    kernel_of_a_setup.values[NTUPLE] = False
    made: Any = kernel_of_a_setup
    made._ethtool = made
    made.features = lambda _ifindex: {"rx-ntuple-filter": made.values[NTUPLE]}
    return kernel_of_a_setup


@pytest.fixture
def rules(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Rules:
    assert NTUPLE in kernel.values
    made = Rules()
    for module in (RESTORE, STEPS, STEERING):
        monkeypatch.setattr(module, "Ntuple", made)
    monkeypatch.setattr(
        STEERING.sockets, "read", tuple
    )  # this machine's have nothing to do with it
    return made


def set_up(folder: Path) -> Setup:
    return Setup("eth0", Wanted((), QUEUE), folder=folder)


def test_a_flow_comes_and_goes_and_the_set_up_stays(
    kernel: Kernel, rules: Rules, folder: Path
) -> None:
    with set_up(folder) as setup:
        one = setup.steer(ONE)
        assert kernel.values[NTUPLE] is True
        assert one.flow == Flow.parse(ONE)
        other = setup.steer(Flow.parse(OTHER), queue=QUEUE)
        assert rules.flows == [ONE, OTHER]
        assert {rule.queue for rule in rules.present.values()} == {QUEUE}
        assert ONE in journals(folder)[0].read_text()
        one.close()
        one.close()
        assert "removed" in repr(one)
        assert "removed" not in repr(other)
        assert rules.flows == [OTHER]
        assert ONE not in journals(folder)[0].read_text()
        again = setup.steer(ONE)
        assert sorted(map(str, rules.flows)) == [ONE, OTHER]
    assert rules.flows == []
    assert kernel.values == UNTOUCHED | {NTUPLE: False}
    again.close()  # nothing is left to do
    assert journals(folder) == []
    with pytest.raises(errors.ClosedError):
        setup.steer(ONE)


def test_what_dead_programs_left_goes_with_their_flows(
    kernel: Kernel, rules: Rules, folder: Path
) -> None:
    setup = set_up(folder)
    setup.steer(ONE)
    (path,) = journals(folder)
    path.write_text(path.read_text().replace('"started": ', '"started": 1'))
    setup.abandon()
    with set_up(folder):
        assert rules.flows == []
    assert kernel.values == UNTOUCHED | {NTUPLE: False}


def test_refusals(kernel: Kernel, rules: Rules, folder: Path) -> None:
    theirs = Rule(3, 0, None, "tcp4 src 198.51.100.7:443", "")
    with set_up(folder) as setup:
        with pytest.raises(errors.BadArgument):
            setup.steer("tcp4 dst nowhere")
        with pytest.raises(errors.BadArgument, match="queue 0"):
            setup.steer(ONE, queue=0)
        with pytest.raises(errors.RuleTooBroad):
            setup.steer("tcp4 dst 192.0.2.1")
        setup.steer(ONE)
        with pytest.raises(errors.RuleExists, match="already"):
            setup.steer(ONE)
        rules.present[3] = theirs
        with pytest.raises(errors.RuleExists):
            setup.steer(str(theirs.flow))
        with pytest.warns(NicWarning, match="overlaps"):
            setup.steer("tcp4 dst 192.0.2.1:40001 src 198.51.100.7:443")
        assert len(rules.flows) == 3
        with pytest.raises(NicWarning, match="overlaps"):  # warnings are errors in these tests
            setup.steer("tcp4 dst 192.0.2.1:40002 src 198.51.100.7:443")
        assert len(rules.flows) == 3
        del rules.present[3]
    assert rules.flows == []
    kernel.state_now = replace(STATE, features={}, rules=None)
    with set_up(folder) as setup:
        kernel.features = lambda _ifindex: {}  # type: ignore[attr-defined]
        with pytest.raises(errors.NicUnsupported, match="no ntuple"):
            setup.steer(ONE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM, errno.EOPNOTSUPP])
def test_a_rule_that_the_card_refuses_leaves_nothing(
    number: int, rules: Rules, folder: Path
) -> None:
    with set_up(folder) as setup:
        rules.refuses["insert"] = number
        with pytest.raises(errors.KernelError) as caught:
            setup.steer(ONE)
        assert caught.value.errno == number
        assert ONE not in journals(folder)[0].read_text()
        rules.refuses["insert"] = 0
        setup.steer(ONE)
    assert rules.flows == []


def test_a_rule_that_the_card_took_and_lost(rules: Rules, folder: Path) -> None:
    with set_up(folder) as setup:
        rules.loses = True
        with pytest.raises(errors.SetupFailed):
            setup.steer(ONE)
        assert ONE not in journals(folder)[0].read_text()


def test_a_rule_that_does_not_go(rules: Rules, folder: Path) -> None:
    setup = set_up(folder)
    steered = setup.steer(ONE)
    rules.refuses["delete"] = errno.EBUSY
    with pytest.raises(errors.KernelError):
        steered.close()
    assert ONE in journals(folder)[0].read_text()
    rules.refuses["delete"] = 0
    setup.close()
    assert rules.flows == []


def test_a_rule_that_others_removed(rules: Rules, folder: Path) -> None:
    with set_up(folder) as setup:
        steered = setup.steer(ONE)
        rules.present.clear()
        with pytest.warns(NicWarning, match="is gone"):
            steered.close()
        assert ONE not in journals(folder)[0].read_text()


def test_which_flows_are_of_one_connection() -> None:
    assert one_connection(Flow.parse(ONE))
    assert one_connection(Flow.parse(OTHER))
    for text in ("tcp4 src 198.51.100.7:443", "tcp4 dst 192.0.2.1:1 src 198.51.100.0/24:2"):
        assert not one_connection(Flow.parse(text))

"""Settings done and undone, on cards that behave as the drivers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

import pyzcrx
from pyzcrx.nic import settings
from pyzcrx.nic.plan import Wanted, plan
from pyzcrx.nic.read import Reader
from pyzcrx.nic.settings import Value, command, spread
from pyzcrx.nic.steps import Set, undo_order
from tests.unit.nic import cards

KERNEL = cast(Reader, None)


class Card:
    """Header split as a driver does it: *shown* is what it makes of what it was told."""

    def __init__(self, shown: Callable[[str, str], str], told: str, reads: str) -> None:
        self.shown, self.told, self.reads = shown, told, reads
        self.changes: list[str] = []

    def current(self, *_: Any) -> Value:
        return self.reads

    def change(self, kernel: Reader, ifindex: int, key: str, value: str) -> bool:
        del kernel, ifindex, key
        self.changes.append(value)
        changed, self.told = value != self.told, value
        self.reads = self.shown(value, self.reads)
        return changed


def plain(told: str, _: str) -> str:
    """bnxt, zcrxsim: auto is off."""
    return "on" if told == "on" else "off"


def sticky(told: str, reads: str) -> str:
    """gve: auto leaves it as it is."""
    return reads if told == "auto" else told


def always(*_: str) -> str:
    """fbnic."""
    return "on"


def eager(told: str, _: str) -> str:
    """netdevsim: auto is on."""
    return "off" if told == "off" else "on"


@pytest.mark.parametrize(
    ("shown", "told", "reads", "ends"),
    [
        (plain, "auto", "off", ("auto", "off")),
        (plain, "on", "on", ("on", "on")),
        (sticky, "auto", "off", ("off", "off")),
        (sticky, "auto", "on", ("auto", "on")),
        (always, "auto", "on", ("auto", "on")),
        (always, "on", "on", ("on", "on")),
        (eager, "auto", "on", ("auto", "on")),
        (eager, "off", "off", ("off", "off")),
        (eager, "on", "on", ("on", "on")),
    ],
)
def test_split_comes_back_as_far_as_can_be(
    monkeypatch: pytest.MonkeyPatch, shown: Any, told: str, reads: str, ends: tuple[str, str]
) -> None:
    card = Card(shown, told, reads)
    monkeypatch.setattr(settings, "current", card.current)
    monkeypatch.setattr(settings, "change", card.change)
    done = Set("tcp-data-split", "auto", "on", reads).do(KERNEL, 2)
    assert card.reads == "on"
    assert done.undo(KERNEL, 2) is None
    assert (card.told, card.reads) == ends
    # A second time, after a crash in between, does no harm.
    done.undo(KERNEL, 2)
    assert card.reads == ends[1]


def test_what_others_changed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(plain, "on", "off")
    monkeypatch.setattr(settings, "current", lambda *_: [0, 0])
    monkeypatch.setattr(settings, "change", card.change)
    note = Set("rss", None, [0, 1], [0, 1, 2]).undo(KERNEL, 2)
    assert note == "rss was changed meanwhile to weight 1: left so"
    assert card.changes == []


def test_a_setting_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "current", lambda *_: True)
    monkeypatch.setattr(settings, "change", lambda *_: True)
    with pytest.raises(pyzcrx.errors.SetupFailed, match="took off without an error and says on"):
        Set("private-flag:rx_cqe_compress", True, False, True).do(KERNEL, 2)


def test_inheritance() -> None:
    first, second = Set("rss", None, [0], [0, 1]), Set("rss", [0], [1], [0])
    assert second.inherit(first) == Set("rss", None, [1], [0, 1])


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("tcp-data-split", "auto", "ethtool -G eth0 tcp-data-split auto"),
        ("hds-thresh", 0, "ethtool -G eth0 hds-thresh 0"),
        ("rx-ring", 1024, "ethtool -G eth0 rx 1024"),
        ("rss", None, "ethtool -X eth0 default"),
        ("rss", [0, 0, 2, 2], "ethtool -X eth0 weight 1 0 1"),
        ("feature:rx-ntuple-filter", True, "ethtool -K eth0 ntuple on"),
        ("feature:rx-gro-hw", False, "ethtool -K eth0 rx-gro-hw off"),
        (
            "private-flag:rx_cqe_compress",
            False,
            "ethtool --set-priv-flags eth0 rx_cqe_compress off",
        ),
        ("irq:33", "0-1", "echo 0-1 > /proc/irq/33/smp_affinity_list"),
    ],
)
def test_commands(key: str, value: Value, line: str) -> None:
    assert command("eth0", key, value) == line


def test_unknown_settings() -> None:
    for call in (
        lambda: command("eth0", "colour", 1),
        lambda: settings.current(KERNEL, 2, "colour"),
        lambda: settings.change(KERNEL, 2, "colour:x", 1),
    ):
        with pytest.raises(pyzcrx.errors.BadArgument, match="no setting is called"):
            call()


def test_shares() -> None:
    assert spread([]) == "default"
    assert spread([3, 3]) == "weight 0 0 0 1"


def test_interrupts_are_undone_after_all_that_restarts_their_queues() -> None:
    steps = plan(cards.card(), Wanted((), queues=2, irq_cpus="1", napi={"threaded": 1})).steps
    order = [steps[at] for at in undo_order(steps)]
    interrupts = [step for step in steps if isinstance(step, Set) and step.key.startswith("irq:")]
    assert len(interrupts) == 2
    assert order[-2:] == interrupts[::-1]
    assert order[:-2] == [step for step in reversed(steps) if step not in interrupts]

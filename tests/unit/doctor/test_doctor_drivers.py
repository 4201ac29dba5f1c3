"""What the doctor says of gve, whose driver is real: no needless word, and no advice in vain."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from typing import Any

import pytest

from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.doctor import Facts, Finding, Severity, Wanted, examine, explain, trial, try_out
from pyzcrx.doctor.facts import Card
from pyzcrx.nic.drivers import ABLE, DRIVERS
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.state import Channels, Rss
from tests.unit.doctor.facts import facts, finding, names, on_card, rings
from tests.unit.nic.cards import CHANNELS, QUEUES, card, gve, takes

LAST = QUEUES - 1


def gve_card(**changes: Any) -> Card:
    """Set up: header split on, ntuple on, RSS kept off the last queue."""
    found = gve().rings
    assert found is not None
    ready: dict[str, Any] = {
        "rings": replace(found, tcp_data_split=True),
        "features": {**gve().features, "rx-ntuple-filter": True, "rx-gro": False},
        "rss": on_card().state.rss,
    }
    return replace(on_card(), state=gve(**ready | changes))


def on_gve(queue: int | None = LAST, **changes: Any) -> Facts:
    return facts(card=gve_card(**changes), wanted=Wanted(queue=queue))


def ill(of: Facts) -> set[str]:
    bad = (Severity.PROBLEM, Severity.WARNING)
    return {f.id for f in examine(of) if f.severity in bad and not f.id.startswith("bug.")}


def test_gve_set_up_is_well() -> None:
    assert ill(on_gve()) == set()
    assert "hds" not in " ".join(f.what for f in examine(on_gve()))


def test_each_binding_takes_the_carrier_down() -> None:
    found = finding(on_gve(), "card.restart")
    assert found.severity is Severity.NOTE
    assert "carrier" in found.what
    assert "card.restart" not in names(facts())


# -- queues ---------------------------------------------------------------------


def test_a_queue_that_is_never_restarted() -> None:
    case = on_gve(queue=0)
    found = finding(case, "queue.fixed")
    assert found.severity is Severity.PROBLEM
    assert "ERANGE" in found.why
    assert "queue.holder" not in names(case)
    assert "queue.fixed" not in names(facts(wanted=Wanted(queue=0)))
    explained = explain(kernel_error(errno.ERANGE, "register ifq"), case, examine(case))
    assert "never restarts" in explained.what
    assert "does not exist" not in explained.what


@pytest.mark.parametrize("index", [QUEUES, 5000])
def test_of_a_queue_that_is_not_there_nothing_else_is_said(index: int) -> None:
    case = facts(wanted=Wanted(queue=index, flow=Flow.parse("tcp4 dst 192.0.2.1:9999")))
    said = [f.id for f in examine(case)]
    assert said[-1] == "queue.exists"
    assert not [name for name in said if name.partition(".")[0] in ("steering", "placement")]


def test_the_queue_in_question_is_one_that_can_be_had() -> None:
    held = tuple(replace(queue, io_uring=queue.index > 0) for queue in card().queues)
    assert on_gve(queue=None).queue == LAST
    assert on_gve(queue=None, queues=held).queue == LAST
    assert facts(wanted=Wanted(), card=on_card(queues=held)).queue == 0


def test_no_trial_that_the_kernel_would_warn_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def register(*_: object) -> None:
        raise AssertionError("it was tried")

    monkeypatch.setattr(trial, "_register", register)
    case = on_gve(queue=0)
    found = try_out(case, examine(case))
    assert found.severity is Severity.UNKNOWN
    assert "never restarts" in found.what
    assert found.hint


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("index", [QUEUES, 2 * QUEUES - 1, 50])
def test_the_channels_that_a_finding_asks_for_are_taken(channels: Channels, index: int) -> None:
    case = facts(card=on_card(channels=channels), wanted=Wanted(queue=index))
    command = re.search(r"ethtool -L eth0 .*", finding(case, "queue.exists").hint)
    if command is not None:
        assert takes(channels, command[0])
    else:
        assert index > max(channels.combined_max, channels.rx_max) - 1


@pytest.mark.parametrize(
    ("channels", "hint"),
    [
        (Channels(1, 8, 0, 0), "ethtool -L eth0 combined 2"),
        (Channels(0, 0, 1, 8), "ethtool -L eth0 rx 2"),
        (Channels(0, 0, 1, 1), "use a NIC with zcrx support"),
        (None, "use a NIC with zcrx support"),
    ],
)
def test_one_queue(channels: Channels | None, hint: str) -> None:
    one = on_card(queues=card().queues[:1], channels=channels, rss=())
    found = finding(facts(card=one, wanted=Wanted(queue=0)), "card.channels")
    assert found.hint.startswith(hint)


# -- header split ----------------------------------------------------------------


@pytest.mark.parametrize("driver", sorted(ABLE))
def test_a_known_driver_without_header_split_cannot(driver: str) -> None:
    without = rings(tcp_data_split=None)
    found = finding(facts(card=on_card(driver=driver, rings=without)), "card.driver")
    assert found.severity is Severity.PROBLEM
    assert "on this device" in found.what
    assert ("DQO RDA" in found.hint) == (driver == "gve")


# -- areas -----------------------------------------------------------------------


def sized(area_bytes: int, of: Card) -> Finding | None:
    case = facts(card=of, wanted=Wanted(queue=LAST, area_bytes=area_bytes))
    return next((f for f in examine(case) if f.id in ("card.ring", "card.area")), None)


def test_a_ring_that_takes_the_area_whole() -> None:
    found = sized(4 << 20, gve_card())
    assert found is not None
    assert (found.id, found.severity) == ("card.ring", Severity.WARNING)
    assert "AreaExhausted" in found.why
    assert "50 MiB" in found.hint
    assert sized(64 << 20, gve_card()) is None
    assert sized(4 << 20, on_card(rings=rings(rx=256))) is None


def test_an_area_of_which_the_nic_sees_nothing() -> None:
    found = sized(64 << 10, gve_card())
    assert found is not None
    assert (found.id, found.severity) == ("card.area", Severity.PROBLEM)
    assert "16, and gve posts them in steps of 32" in found.what
    other = sized(64 << 10, on_card())
    assert other is not None
    assert other.id == "card.ring"


# -- what is not split -------------------------------------------------------------


@pytest.mark.parametrize("driver", sorted(ABLE))
def test_what_becomes_of_arp_on_a_bound_queue(driver: str) -> None:
    to_queue = (Rss(0, (LAST,) * 16, "", 1, 0, {}),)
    case = facts(card=on_card(driver=driver, rss=to_queue))
    drops = DRIVERS[driver].drops_unsplit
    assert ("ARP and ND" in finding(case, "steering.rss").why) == drops
    no_rules = facts(card=on_card(driver=driver, rules=None, features={}))
    assert ("ARP and ND" in finding(no_rules, "steering.ntuple").hint) == drops

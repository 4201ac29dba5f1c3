"""A card set up for zcrx and put back, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.doctor import facts
from pyzcrx.doctor.read import read as read_facts
from tests.guest.card import run
from tests.guest.echo import exchange
from tests.nic.card import Card, journals, lacks
from tests.sim.fresh import zcrx_nic

MIB = 1 << 20


def doctor_card(interface: str) -> facts.Card:
    found = read_facts(interface).card
    assert found is not None
    return found


def flow(card: Card, port: int = 9999) -> str:
    return f"tcp4 dst {card.server}:{port}"


# -- the whole way ----------------------------------------------------------------


def test_echo_with_no_other_command(card: Card) -> None:
    data = os.urandom(4 * MIB)
    before = card.state()
    assert before.rings is not None
    assert before.rings.tcp_data_split is False
    with card.echo(port=9999) as echo:
        meanwhile = card.state()
        (queue,) = (queue.index for queue in meanwhile.queues if queue.io_uring)
        books = card.tcp_bytes(queue)
        with echo.connect() as sock:
            assert exchange(sock, data) == data
        now = card.tcp_bytes(queue)
        assert now["page"] == books["page"]
        assert now["linear"] == books["linear"]
        assert now["zc"] - books["zc"] >= len(data)
        assert queue not in meanwhile.rss[0].table
        assert meanwhile.rules is not None
        addresses = {address for address in meanwhile.addresses if ":" in address}
        assert card.server_v6 in addresses
        assert {rule.flow for rule in meanwhile.rules} == {
            f"tcp4 dst {card.server}:9999",
            *(f"tcp6 dst [{address}]:9999" for address in addresses),
        }
    assert echo.stats["bytes"] == len(data)
    assert echo.stats["bytes_copied"] == 0
    # The process has ended; Echo demanded status 0 and no word on stderr.
    assert card.state() == before


def test_interrupt_puts_the_card_back(card: Card) -> None:
    with card.echo() as echo:
        assert len(journals()) == 1
        echo.stop(signal.SIGINT)


def test_a_worker_without_privilege_leaves_it_to_its_supervisor(card: Card) -> None:
    data = os.urandom(MIB)
    with card.echo("--user", "nobody") as echo:
        with echo.connect() as sock:
            assert exchange(sock, data) == data
        assert len(journals()) == 1
    assert echo.stats["bytes_copied"] == 0


def test_kill_leaves_what_restore_puts_back(card: Card) -> None:
    before = card.state()
    with card.echo() as echo, echo.connect() as sock:
        sock.sendall(b"x" * 1000)
        echo.kill()
    assert card.state() != before
    (leftover,) = doctor_card(card.interface).leftovers or ()
    assert (leftover.pid, leftover.state) == (echo.process.pid, "stale")
    done = zcrx_nic("restore", "--stale")
    assert f"{card.interface}: put back what process {echo.process.pid}" in done.stdout
    assert card.state() == before
    assert zcrx_nic("restore", "--stale").stdout == "nothing to put back\n"


def test_kill_leaves_what_the_next_start_puts_back(card: Card) -> None:
    with card.echo(port=9999) as echo:
        echo.kill()
    with nic.prepare(card.interface, flow(card)):
        rules = card.state().rules
        assert rules is not None
        assert [rule.flow for rule in rules] == [flow(card)]


def test_an_exception_puts_the_card_back(card: Card) -> None:
    with pytest.raises(ZeroDivisionError), nic.prepare(card.interface, flow(card)):
        raise ZeroDivisionError


def test_registration_on_a_prepared_card(card: Card) -> None:
    with (
        nic.prepare(card.interface, flow(card)) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(16 * MIB) as area,
    ):
        ring.register_ifq(area, setup)
        assert setup.queue == 3
        assert setup.check() == []


def test_command_line(card: Card) -> None:
    before = card.state()
    dry = zcrx_nic("setup", card.interface, "-f", flow(card), "--dry-run").stdout.splitlines()
    assert card.state() == before
    assert dry == [
        *(line.format(interface=card.interface) for line in card.dry_run),
        f"ethtool -N {card.interface} flow-type tcp4 dst-ip {card.server} dst-port 9999 action 3",
    ]
    plan = json.loads(zcrx_nic("setup", card.interface, "-p", "9999", "--json").stdout)
    assert plan["queues"] == [3]
    assert zcrx_nic("restore", "--stale").stdout == "nothing to put back\n"
    assert "zcrx-nic setup had changed" in zcrx_nic("restore", card.interface).stdout
    assert "header split  off" in zcrx_nic("show", card.interface).stdout


def test_several_queues_share_by_a_context(card: Card) -> None:
    lacks(card, "has no RSS contexts")
    with nic.prepare(card.interface, flow(card), queues=2) as setup:
        state = card.state()
        assert setup.queues == (2, 3)
        assert set(state.rss[0].table) == {0, 1}
        assert set(state.rss[1].table) == {2, 3}
        assert state.rules is not None
        assert [rule.context for rule in state.rules] == [1]
        assert "context" in " ".join(setup.plan.commands())


def test_placement(card: Card) -> None:
    napi = {"gro-flush-timeout": 20_000, "defer-hard-irqs": 2, "irq-suspend-timeout": 1_000_000}
    with nic.prepare(card.interface, flow(card), irq_cpus="0", napi=napi) as setup:
        state = nic.read(card.interface)
        irq, found = state.irq_of(setup.queue), state.napi_of(setup.queue)
        assert irq is not None
        assert irq.cpus == "0"
        assert found is not None
        assert (found.gro_flush_timeout_ns, found.defer_hard_irqs) == (20_000, 2)
        assert found.irq_suspend_timeout_ns == 1_000_000


# -- what was there before -----------------------------------------------------------


@pytest.fixture
def split_asked_for(card: Card) -> Iterator[None]:
    run("ethtool", "-G", card.interface, "tcp-data-split", "on")
    yield
    run("ethtool", "-G", card.interface, "tcp-data-split", card.split_off)


@pytest.mark.usefixtures("split_asked_for")
def test_split_that_was_asked_for_before_stays(card: Card) -> None:
    with nic.prepare(card.interface, flow(card)):
        pass
    rings = card.state().rings
    assert rings is not None
    assert rings.tcp_data_split is True


def test_a_table_of_somebody_comes_back(card: Card) -> None:
    run("ethtool", "-X", card.interface, "weight", "1", "2", "3", "2")
    before = card.state().rss
    with nic.prepare(card.interface, flow(card)):
        table = card.state().rss[0].table
        assert 3 not in table
        moved = [now for now, was in zip(table, before[0].table, strict=True) if now != was]
        assert len(moved) == before[0].table.count(3)
    assert card.state().rss == before
    run("ethtool", "-X", card.interface, "default")


def test_a_default_table_follows_the_queues_again(card: Card) -> None:
    lacks(card, "leaves the RSS table to its device when channels change")
    with nic.prepare(card.interface, flow(card)):
        pass
    run("ethtool", "-L", card.interface, card.channels, "2")
    assert set(card.state().rss[0].table) == {0, 1}
    run("ethtool", "-L", card.interface, card.channels, "4")
    assert set(card.state().rss[0].table) == {0, 1, 2, 3}


@pytest.mark.parametrize("set_to", ["off", "on"])
def test_ntuple_is_as_it_was(card: Card, set_to: str) -> None:
    before = card.state().features["rx-ntuple-filter"]
    run("ethtool", "-K", card.interface, "ntuple", set_to)
    with nic.prepare(card.interface, flow(card)):
        assert card.state().features["rx-ntuple-filter"]
    assert card.state().features["rx-ntuple-filter"] is (set_to == "on")
    run("ethtool", "-K", card.interface, "ntuple", "on" if before else "off")


# -- others at the same card -----------------------------------------------------------


@pytest.mark.parametrize("first_goes_first", [True, False])
def test_two_programs_do_not_undo_each_other(card: Card, first_goes_first: bool) -> None:
    before = card.state()
    one = nic.prepare(card.interface, flow(card, 1))
    two = nic.prepare(card.interface, flow(card, 2))
    assert (one.queue, two.queue) == (3, 2)
    goes, stays = (one, two) if first_goes_first else (two, one)
    goes.close()
    state = card.state()
    assert state.rings is not None
    assert state.rings.tcp_data_split is True
    assert stays.queue not in state.rss[0].table
    assert stays.check() == []
    stays.close()
    assert card.state() == before


def test_a_dead_program_beside_a_living_one(card: Card) -> None:
    with card.echo() as echo, nic.prepare(card.interface, flow(card, 1)) as setup:
        echo.kill()
        zcrx_nic("restore", "--stale")
        assert setup.check() == []
        assert len(journals()) == 1


def test_what_others_change_is_said_and_left(card: Card) -> None:
    setup = nic.prepare(card.interface, flow(card))
    run("ethtool", "-X", card.interface, "equal", "2")
    with pytest.warns(nic.NicWarning, match="rss was changed meanwhile") as caught:
        setup.close()
    assert len(caught) == 1
    assert set(card.state().rss[0].table) == {0, 1}
    run("ethtool", "-X", card.interface, "default")


def test_what_others_change_is_noticed(card: Card) -> None:
    with nic.prepare(card.interface, flow(card)) as setup:
        found = card.state().rules
        assert found is not None
        table = ["ethtool", "-X", card.interface]
        run(*table, "equal", "4")
        assert setup.check() == ["RSS leads other traffic to queue 3 now"]
        run(*table, "weight", "1", "1", "1", "0")
        rule = ["ethtool", "-N", card.interface]
        run(*rule, "flow-type", "tcp4", "dst-port", "7", "action", "3", "loc", "5")
        assert setup.check() == ["rule 5 leads to queue 3 as well"]
        run(*rule, "delete", "5")
        run(*rule, "delete", str(found[0].location))
        assert setup.check() == [f"the rule for {flow(card)} is gone"]
        run(
            *rule,
            *nic.Flow.parse(flow(card)).ethtool().split(),
            "action",
            "3",
            "loc",
            str(found[0].location),
        )
        assert setup.check() == []
        # The same shares in another order are not what we had set, either.
        with pytest.warns(nic.NicWarning, match="rss was changed"):
            setup.close()
    run(*table, "default")

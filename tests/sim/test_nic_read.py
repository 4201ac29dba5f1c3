"""A card's state as read by us and as changed by stock tools."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.nic.ethtool import Ethtool
from pyzcrx.nic.netdev import Netdev
from tests.guest.card import Sim, register, run


@pytest.fixture(autouse=True)
def unchanged(sim: Sim) -> Iterator[None]:
    before = nic.read(sim.interface)
    yield
    sim.queue_free()
    assert nic.read(sim.interface) == before


def test_the_card(sim: Sim) -> None:
    state = nic.read(sim.interface)
    assert state.driver == "zcrxsim"
    assert state.bus == "zcrxsim.0"
    assert state.up
    assert state.carrier
    assert {"192.0.2.1", "2001:db8::1"} <= set(state.addresses)
    assert state.channels is not None
    assert (state.channels.combined, state.channels.combined_max) == (4, 66)
    assert state.rx_queues == 4
    assert state.rings is not None
    assert state.rings.tcp_data_split is True
    assert (state.rings.rx, state.rings.rx_max, state.rings.hds_thresh) == (512, 16384, 0)
    assert state.features["rx-ntuple-filter"]
    assert state.private_flags == {"rx-pack": False}
    assert set(state.rss[0].table) == {sim.queue}
    assert len(state.rss[0].table) == 512
    assert state.rss[0].fields["tcp4"]
    for index in range(4):
        irq = state.irq_of(index)
        assert irq is not None
        assert irq.name == f"{sim.interface}-{index}"
    assert state.unread == ()
    assert nic.State.from_json(state.to_json()) == state


def test_rules_of_ethtool(sim: Sim) -> None:
    for flow in ("tcp4 dst 192.0.2.0/24:9999", "tcp6 dst [2001:db8::1]:9 src [2001:db8::2]:8"):
        run("ethtool", "-N", sim.interface, *nic.Flow.parse(flow).ethtool().split(), "action", "2")
        rules = nic.read(sim.interface).rules
        assert rules is not None
        (rule,) = rules
        assert (rule.flow, rule.queue, rule.context) == (flow, 2, None)
        run("ethtool", "-N", sim.interface, "delete", str(rule.location))


def test_contexts_of_ethtool(sim: Sim) -> None:
    run("ethtool", "-X", sim.interface, "context", "new", "start", "2", "equal", "2")
    run("ethtool", "-N", sim.interface, "flow-type", "tcp4", "dst-port", "9", "context", "1")
    state = nic.read(sim.interface)
    assert [rss.context for rss in state.rss] == [0, 1]
    assert set(state.rss[1].table) == {2, 3}
    assert state.rules is not None
    (rule,) = state.rules
    assert (rule.context, rule.flow) == (1, "tcp4 dst *:9")
    run("ethtool", "-N", sim.interface, "delete", str(rule.location))
    run("ethtool", "-X", sim.interface, "context", "1", "delete")


def test_a_bound_queue_is_seen(sim: Sim) -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 << 20) as area:
        register(ring, area)
        state = nic.read(sim.interface)
        assert [queue.holder is not None for queue in state.queues] == [False, True, False, False]
        with Netdev() as netdev:
            assert netdev.queue(state.ifindex, sim.queue).io_uring
            assert netdev.io_uring_pools(state.ifindex) == 1


def test_the_kernels_words_are_kept(sim: Sim) -> None:
    ifindex = nic.read(sim.interface).ifindex
    with Ethtool() as ethtool:
        with pytest.raises(pyzcrx.errors.InvalidRequest, match="exceeds maximum") as caught:
            ethtool.set_rings(ifindex, rx=1 << 20)
        assert "exceeds maximum" in caught.value.extack
        with pytest.raises(pyzcrx.errors.InvalidRequest, match="out of range"):
            ethtool.set_rss_table(ifindex, [9])


def test_without_privilege(sim: Sim) -> None:
    script = "import sys; from pyzcrx import nic; print(nic.read(sys.argv[1]).to_json())"
    output = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "python3",
            "-c",
            script,
            sim.interface,
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout
    assert nic.State.from_json(output) == nic.read(sim.interface)


def test_a_card_that_is_down(sim: Sim) -> None:
    run("ip", "link", "set", sim.interface, "down")
    try:
        state = nic.read(sim.interface)
        assert not state.up
        assert not state.queues
        assert not state.napis
        assert state.rx_queues == 4
    finally:
        run("ip", "link", "set", sim.interface, "up")

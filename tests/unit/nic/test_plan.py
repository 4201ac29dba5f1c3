"""Plans: what is done, in which order, and what is refused and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.plan import Wanted, listening_flows, plan, without
from pyzcrx.nic.sockets import TcpSocket
from pyzcrx.nic.state import Channels, Lease, Queue, Rss, Rule, State
from pyzcrx.nic.steps import Context, Set, Steer
from tests.unit.nic.cards import CHANNELS, QUEUES, card, gve, takes

FLOW = Flow.parse("tcp4 dst 192.0.2.1:9999")


def wanted(**changes: Any) -> Wanted:
    return replace(Wanted((FLOW,)), **changes)


def rings(**changes: Any) -> State:
    found = card().rings
    assert found is not None
    return card(rings=replace(found, **changes))


def rule(flow: str | None, queue: int | None = 0, location: int = 5) -> Rule:
    return Rule(location, queue, None, flow, "")


def listening(port: int, address: str = "0.0.0.0", inode: int = 77) -> TcpSocket:
    local = ip_address(address)
    peer = ip_address("0.0.0.0" if local.version == 4 else "::")
    return TcpSocket(local, port, peer, 0, True, inode)


def test_an_untouched_card() -> None:
    made = plan(card(), wanted())
    assert made.queues == (3,)
    assert made.commands() == (
        "ethtool -G eth0 tcp-data-split on",
        "ethtool -X eth0 weight 6 5 5",
        "ethtool -N eth0 flow-type tcp4 dst-ip 192.0.2.1 dst-port 9999 action 3",
    )
    assert made.warnings == ()


def test_the_order_of_steps() -> None:
    state = card(
        driver="mlx5_core",
        private_flags={"rx_cqe_compress": True},
        features={"rx-gro-hw": False, "rx-ntuple-filter": False},
    )
    made = plan(state, wanted(queues=2, rx_ring=1024, irq_cpus="1", napi={"threaded": 1}))
    keys = [step.key if isinstance(step, Set) else type(step).__name__ for step in made.steps]
    assert keys == [
        "private-flag:rx_cqe_compress",
        "feature:rx-gro-hw",
        "feature:rx-ntuple-filter",
        "rx-ring",
        "tcp-data-split",
        "hds-thresh",
        "rss",
        "Context",
        "Steer",
        "irq:32",
        "napi:2:threaded",
        "irq:33",
        "napi:3:threaded",
    ]


def test_split_is_set_even_where_it_reads_enabled() -> None:
    made = plan(rings(tcp_data_split=True), wanted())
    (split,) = (s for s in made.steps if isinstance(s, Set) and s.key == "tcp-data-split")
    assert (split.before, split.after, split.seen) == ("auto", "on", "on")
    assert "ethtool -G eth0 tcp-data-split on" in made.commands()


def test_a_threshold_goes_to_0_and_comes_back() -> None:
    made = plan(rings(hds_thresh=256), wanted())
    assert Set("hds-thresh", 256, 0, 256) in made.steps
    assert "ethtool -G eth0 hds-thresh 0" in made.commands()


def test_an_unknown_driver_is_warned_of() -> None:
    assert "is not known for zcrx" in plan(card(driver="ice"), wanted()).warnings[0]


def test_a_threshold_that_the_driver_lacks_is_left_alone() -> None:
    # The kernel's own is 0 then.
    made = plan(rings(hds_thresh=None), wanted())
    assert not any(isinstance(step, Set) and step.key == "hds-thresh" for step in made.steps)
    assert made.warnings == ()


def test_without_flows_nothing_is_steered() -> None:
    made = plan(card(rules=None, features={}), Wanted(queue=1))
    assert made.queues == (1,)
    assert not any(isinstance(step, (Steer, Context)) for step in made.steps)


# -- the queue ------------------------------------------------------------------


def queues(**held: Any) -> State:
    """A card whose last queue is held so."""
    return card(queues=(*card().queues[:-1], replace(card().queues[-1], **held)))


@pytest.mark.parametrize(
    "held", [{"io_uring": True}, {"dmabuf": 1}, {"xsk": True}, {"lease": Lease(9, 1, None)}]
)
def test_a_held_queue_is_not_taken(held: dict[str, Any]) -> None:
    state = queues(**held)
    assert plan(state, wanted()).queues == (2,)
    with pytest.raises(pyzcrx.errors.NicBusy, match="queue 3 of eth0 is held by"):
        plan(state, wanted(queue=3))


def test_a_leased_queue_can_be_forced_for_its_lessee() -> None:
    lease = Lease(9, 1, None)
    assert plan(queues(lease=lease), wanted(queue=3, force=True)).queues == (3,)
    with pytest.raises(pyzcrx.errors.NicBusy, match="held by io_uring"):
        plan(queues(lease=lease, io_uring=True), wanted(queue=3, force=True))


def test_queues_that_rules_or_contexts_lead_to_are_not_chosen() -> None:
    assert plan(card(rules=(rule("tcp4 dst *:1", 3),)), wanted()).queues == (2,)
    other = Rss(1, (2, 3), "", 1, 0, {})
    state = card(rss=(*card().rss, other))
    assert plan(state, wanted()).queues == (1,)
    (warning,) = plan(state, wanted(queue=3)).warnings
    assert "RSS context 1 leads to queue 3" in warning


def test_no_queue_is_left() -> None:
    state = card(queues=tuple(replace(queue, io_uring=True) for queue in card().queues))
    with pytest.raises(pyzcrx.errors.NicBusy, match="0 free queues of 4"):
        plan(state, wanted())


def test_queue_beyond_the_last() -> None:
    with pytest.raises(pyzcrx.errors.OutOfRange, match="queues 0 to 3"):
        plan(card(), wanted(queue=4))


def test_all_queues_are_too_many() -> None:
    with pytest.raises(pyzcrx.errors.NicUnsupported, match="leave none for the rest"):
        plan(card(), wanted(queues=4))


# -- what only a driver's name tells ---------------------------------------------


def test_gve_untouched() -> None:
    made = plan(gve(), wanted())
    assert made.warnings == ()
    assert made.queues == (3,)
    assert made.commands() == (
        "ethtool -K eth0 ntuple on",
        "ethtool -G eth0 tcp-data-split on",
        "ethtool -X eth0 weight 6 5 5",
        "ethtool -N eth0 flow-type tcp4 dst-ip 192.0.2.1 dst-port 9999 action 3",
    )


def test_a_queue_that_its_driver_never_restarts_is_refused() -> None:
    for asked in (wanted(queue=0), wanted(queue=0, queues=2), wanted(queue=0, force=True)):
        with pytest.raises(pyzcrx.errors.NicUnsupported, match="queue 0 of eth0 cannot be bound"):
            plan(gve(), asked)
    assert plan(gve(), wanted(queue=1)).queues == (1,)
    assert plan(card(), wanted(queue=0)).queues == (0,)


def test_a_queue_that_its_driver_never_restarts_is_not_chosen() -> None:
    held = tuple(replace(queue, io_uring=queue.index > 0) for queue in card().queues)
    with pytest.raises(pyzcrx.errors.NicBusy, match=r"0 free queues of 4.*gve never restarts"):
        plan(gve(queues=held), wanted())
    assert plan(card(queues=held), wanted()).queues == (0,)
    assert plan(gve(), wanted(queues=3)).queues == (1, 2, 3)


@pytest.mark.parametrize(
    ("rx_buf_len", "area_bytes", "small"),
    [
        (4096, 31 * 4096, True),
        (4096, 32 * 4096, False),
        (2048, 15 * 4096, True),
        (2048, 16 * 4096, False),
        (None, 64 << 10, True),
    ],
)
def test_an_area_smaller_than_a_posting_step(
    rx_buf_len: int | None, area_bytes: int, small: bool
) -> None:
    found = gve().rings
    assert found is not None
    state = gve(rings=replace(found, rx_buf_len=rx_buf_len))
    warnings = plan(state, wanted(area_bytes=area_bytes)).warnings
    assert len(warnings) == small
    assert all("in steps of 32" in text and "use a larger one" in text for text in warnings)
    assert plan(card(), wanted(area_bytes=4096)).warnings == ()


def test_what_header_split_needs_is_said_where_it_is_missing_only() -> None:
    missing = gve().rings
    assert missing is not None
    without = gve(rings=replace(missing, tcp_data_split=None))
    with pytest.raises(pyzcrx.errors.NicUnsupported, match=r"no header split.*DQO RDA"):
        plan(without, wanted())
    for split in (False, True):
        assert not plan(gve(rings=replace(missing, tcp_data_split=split)), wanted()).warnings


# -- more queues -----------------------------------------------------------------


ONE = {
    name: replace(channels, combined=bool(channels.combined), rx=int(not channels.combined))
    for name, channels in CHANNELS.items()
    if name != "both"
}
HELD = tuple(replace(queue, io_uring=True) for queue in card().queues)


@pytest.mark.parametrize(
    ("channels", "changes", "asked"),
    [
        *((one, {"queues": card().queues[:1]}, wanted()) for one in ONE.values()),
        *((many, {}, wanted(queues=4)) for many in CHANNELS.values()),
        *((many, {"queues": HELD}, wanted()) for many in CHANNELS.values()),
        (None, {"queues": HELD}, wanted()),
        (None, {}, wanted(queues=4)),
        (None, {"queues": card().queues[:1]}, wanted()),
    ],
)
def test_the_channels_that_a_refusal_asks_for_are_taken(
    channels: Channels | None, changes: dict[str, Any], asked: Wanted
) -> None:
    with pytest.raises(pyzcrx.errors.NicError) as caught:
        plan(card(channels=channels, **changes), asked)
    command = re.search(r"ethtool -L eth0 .*", str(caught.value))
    total = len(changes.get("queues", card().queues))
    has_more = channels is not None and max(channels.combined_max, channels.rx_max) > total
    mixed = channels is not None and channels.combined and channels.rx
    assert (command is not None) == (has_more or bool(mixed))
    if command is not None:
        assert channels is not None
        assert takes(channels, command[0])


# -- cards that cannot -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"rings": None, "driver": "veth"}, pyzcrx.errors.NicUnsupported, "has no header split"),
        ({"up": False}, pyzcrx.errors.NicUnsupported, "ip link set eth0 up"),
        ({"xdp_program": 7}, pyzcrx.errors.NicBusy, "XDP program .id 7."),
        (
            {"queues": (Queue(0, 1, False, None, None, False, None),)},
            pyzcrx.errors.NicUnsupported,
            "ethtool -L eth0 combined 2",
        ),
        ({"rules": None}, pyzcrx.errors.NicUnsupported, "cannot be read.* ethtool --reset eth0"),
        ({"features": {}}, pyzcrx.errors.NicUnsupported, "no ntuple rules"),
        (
            {"rules": tuple(rule(f"tcp4 dst *:{i + 1}", 0, i) for i in range(16))},
            pyzcrx.errors.RuleTableFull,
            "16 of 16 rules are taken",
        ),
    ],
)
def test_refusals(changes: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        plan(card(**changes), wanted())
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_split_at_all() -> None:
    with pytest.raises(pyzcrx.errors.NicUnsupported, match="no header split"):
        plan(rings(tcp_data_split=None), wanted())


@pytest.mark.parametrize(
    "changes",
    [
        {"queues": 0},
        {"queue": -1},
        {"irq_cpus": "x"},
        {"irq_cpus": "3-1"},
        {"napi": {"x": 1}},
        {"rx_ring": 5000},
        {"flows": (FLOW, FLOW)},
    ],
)
def test_wrong_wishes(changes: dict[str, Any]) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument):
        plan(card(), wanted(**changes))


# -- strangers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "sock"),
    [
        ("tcp4 dst 192.0.2.1:9999", listening(9999)),
        ("tcp4 dst 192.0.2.1:9999", listening(9999, "192.0.2.1")),
        ("tcp4 dst 192.0.2.1:9999", listening(9999, "::")),
        ("tcp6 dst [2001:db8::1]:9999", listening(9999, "::")),
        ("tcp4 dst *:22", listening(22)),
        (
            "tcp4 src 198.51.100.0/24:443",
            TcpSocket(ip_address("192.0.2.1"), 5, ip_address("198.51.100.9"), 443, False, 7),
        ),
    ],
)
def test_a_rule_that_would_catch_strangers(flow: str, sock: TcpSocket) -> None:
    shall = wanted(flows=(Flow.parse(flow),))
    with pytest.raises(pyzcrx.errors.RuleTooBroad, match="would take data from the"):
        plan(card(), shall, [sock])
    assert plan(card(), shall, [sock], own=frozenset({sock.inode})).queues
    assert plan(card(), replace(shall, force=True), [sock]).queues


@pytest.mark.parametrize(
    "sock",
    [
        listening(80),
        listening(9999, "127.0.0.1"),
        listening(9999, "192.0.2.9"),
        listening(9999, "2001:db8::1"),
    ],
)
def test_sockets_that_are_none_of_it(sock: TcpSocket) -> None:
    assert plan(card(), wanted(), [sock]).queues


def test_a_flow_of_everything_needs_force() -> None:
    shall = wanted(flows=(Flow.parse("tcp4 dst 192.0.2.1:*"),))
    with pytest.raises(pyzcrx.errors.RuleTooBroad, match="remote logins"):
        plan(card(), shall)
    assert plan(card(), replace(shall, force=True)).queues


def test_rules_of_others() -> None:
    with pytest.raises(pyzcrx.errors.RuleExists, match="rule 5 is for tcp4"):
        plan(card(rules=(rule(str(FLOW)),)), wanted())
    made = plan(card(rules=(rule("tcp4 dst *:9999"),)), wanted())
    assert any("overlaps" in text for text in made.warnings)
    assert plan(card(rules=(rule(None), rule("tcp4 dst *:80", None, 6))), wanted()).warnings == ()
    busy = card(rules=(rule("tcp4 dst *:80", 3),))
    with pytest.raises(pyzcrx.errors.RuleTooBroad, match="to queue 3 already"):
        plan(busy, wanted(queue=3))
    assert plan(busy, wanted(queue=3, force=True)).queues == (3,)


# -- RSS -----------------------------------------------------------------------------

TABLES = st.lists(st.integers(0, QUEUES - 1), min_size=1, max_size=128)


@settings(deadline=None)
@given(TABLES, st.sets(st.integers(0, QUEUES - 1), min_size=1, max_size=QUEUES - 1))
def test_tables_leave_queues_out_and_nothing_else_moves(table: list[int], out: set[int]) -> None:
    after = without(table, sorted(out), QUEUES)
    assert len(after) == len(table)
    assert not out & set(after)
    for was, now in zip(table, after, strict=True):
        assert was in out or now == was


def test_shares_are_kept() -> None:
    table = [0] * 10 + [1] * 20 + [2] * 30 + [3] * 60
    assert Counter(without(table, [3], QUEUES)) == {0: 20, 1: 40, 2: 60}


def test_a_table_all_on_our_queue_spreads_over_the_others() -> None:
    assert without([3, 3, 3, 3], [3], QUEUES) == (0, 1, 2, 0)


def test_default_tables_are_put_back_as_such() -> None:
    (rss,) = (s for s in plan(card(), wanted()).steps if isinstance(s, Set) and s.key == "rss")
    assert rss.before is None
    assert rss.seen == list(card().rss[0].table)
    state = card(rss=(replace(card().rss[0], table=(0, 0, 1, 3)),))
    (rss,) = (s for s in plan(state, wanted()).steps if isinstance(s, Set) and s.key == "rss")
    assert rss.before == rss.seen == [0, 0, 1, 3]


def test_a_table_with_queues_that_are_gone_becomes_the_kernels_own_again() -> None:
    """As gve leaves it after ``ethtool -L``; the kernel would not take it back."""
    state = card(rss=(replace(card().rss[0], table=(0, 1, 2, 3, QUEUES, QUEUES + 3)),))
    (rss,) = (s for s in plan(state, wanted()).steps if isinstance(s, Set) and s.key == "rss")
    assert rss.after == [0, 1, 2, 0, 1, 2]
    assert (rss.before, rss.seen) == (None, [0, 1, 2, 3, 0, 1])


def test_a_context_takes_the_first_free_number() -> None:
    state = card(rss=(*card().rss, Rss(1, (0,), "", 1, 0, {})))
    (context,) = (s for s in plan(state, wanted(queues=2)).steps if isinstance(s, Context))
    assert context.number == 2
    assert set(context.table) == {2, 3}


# -- flows of a server -----------------------------------------------------------------


def test_flows_in_turn_have_a_queue_each() -> None:
    flows = tuple(Flow.parse(f"tcp4 dst 192.0.2.1:{port}") for port in (7001, 7002, 7003))
    made = plan(card(), Wanted(flows, queues=2, in_turn=True))
    assert made.queues == (2, 3)
    steered = [(step.flow, step.queue) for step in made.steps if isinstance(step, Steer)]
    assert steered == list(zip(map(str, flows), (2, 3, 2), strict=True))
    assert not any(isinstance(step, Context) for step in made.steps)


def test_a_server_on_all_addresses() -> None:
    assert [str(flow) for flow in listening_flows(card(), 80)] == [
        "tcp4 dst 192.0.2.1:80",
        "tcp6 dst [2001:db8::1]:80",
    ]
    assert len(listening_flows(card(), 80, ipv6=False)) == 1


def test_a_server_on_one_address() -> None:
    (flow,) = listening_flows(card(), 80, "fe80::1%eth0")
    assert str(flow) == "tcp6 dst [fe80::1]:80"


def test_a_server_nowhere() -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="no address to receive on"):
        listening_flows(card(addresses=()), 80)
    with pytest.raises(pyzcrx.errors.BadArgument, match="is no address"):
        listening_flows(card(), 80, "localhost")

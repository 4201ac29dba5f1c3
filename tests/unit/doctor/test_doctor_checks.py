"""Each check over facts as data: what is well, what is ill, and what fixes it."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest

from pyzcrx.doctor import Finding, Severity, Wanted, examine, ready
from pyzcrx.doctor.facts import Card, HugePages, Leftover, Machine, RingUser
from pyzcrx.doctor.steering import covers
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.state import Channels, Irq, Lease, Napi, Queue, Rss, Rule
from pyzcrx.probe import Presence
from tests.unit.doctor.facts import (
    CONFIG,
    MEMORY,
    PRIVILEGE,
    facts,
    finding,
    names,
    on_card,
    rings,
)
from tests.unit.nic.cards import QUEUES

OK, NOTE, UNKNOWN = Severity.OK, Severity.NOTE, Severity.UNKNOWN
WARNING, PROBLEM = Severity.WARNING, Severity.PROBLEM
LAST = QUEUES - 1


def rule(location: int, flow: str | None, queue: int | None = LAST, **more: Any) -> Rule:
    return Rule(location=location, queue=queue, context=more.get("context"), flow=flow, spec="")


def held(**by: Any) -> Card:
    """The last queue is held."""
    free = on_card().state.queues
    return on_card(queues=(*free[:-1], replace(free[-1], **by)))


def test_all_is_well() -> None:
    found = examine(facts())
    assert ready(found)
    # Whether split was asked for cannot be seen, and what is to arrive was not said.
    assert [f.id for f in found if f.severity is not OK] == ["card.split", "steering.none"]
    steered = facts(card=on_card(rules=(rule(0, "tcp4 dst *:9999"),)))
    assert "steering.none" not in names(steered)


def test_every_ill_finding_says_why_and_most_how_to_fix_it() -> None:
    for case in (
        facts(probe={"zcrx": Presence.COMPILED_OUT}),
        facts(card=on_card(up=False, xdp_program=7, rings=rings(tcp_data_split=False))),
        facts(card=held(io_uring=True), privilege=replace(PRIVILEGE, net_admin=False)),
    ):
        for ill in examine(case):
            if ill.severity in (WARNING, PROBLEM):
                assert ill.why
                assert ill.hint
            assert "\n" not in ill.what


# -- kernel -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("presence", "why"),
    [(Presence.COMPILED_OUT, "CONFIG_IO_URING_ZCRX"), (Presence.UNKNOWN_TO_KERNEL, "6.15")],
)
def test_a_kernel_without_zcrx(presence: Presence, why: str) -> None:
    found = finding(facts(probe={"zcrx": presence}), "kernel.zcrx")
    assert found.severity is PROBLEM
    assert why in found.why


@pytest.mark.parametrize(
    ("number", "disabled", "sys_admin", "seccomp", "name"),
    [
        (errno.EPERM, 2, True, False, "kernel.io_uring_disabled"),
        (errno.EPERM, 1, False, False, "kernel.io_uring_disabled"),
        (errno.EPERM, 1, True, True, "kernel.seccomp"),
        (errno.EPERM, 0, False, True, "kernel.seccomp"),
        (errno.EPERM, None, False, False, "kernel.seccomp"),
        (errno.ENOSYS, None, True, False, "kernel.io_uring"),
    ],
)
def test_no_ring(
    number: int, disabled: int | None, sys_admin: bool, seccomp: bool, name: str
) -> None:
    case = facts(
        io_uring_disabled=disabled,
        probe={"zcrx": Presence.NO_IO_URING, "ring_errno": number, "notes": ("ring set-up",)},
        privilege=replace(PRIVILEGE, sys_admin=sys_admin, seccomp=seccomp),
    )
    found = finding(case, name)
    assert found.severity is PROBLEM
    if name == "kernel.io_uring_disabled":
        assert found.fix is not None
        assert (found.fix.key, found.fix.value) == ("sysctl:kernel.io_uring_disabled", 0)


def test_configuration() -> None:
    assert "kernel.config" not in names(facts())
    assert finding(facts(config=None), "kernel.config").severity is UNKNOWN
    without = {name: value for name, value in CONFIG.items() if name != "PAGE_POOL"}
    found = finding(facts(config=without, probe={"zcrx": Presence.COMPILED_OUT}), "kernel.config")
    assert found.severity is PROBLEM
    assert "CONFIG_PAGE_POOL" in found.what
    assert "-e PAGE_POOL" in found.hint


def test_abilities() -> None:
    assert "ADD_AREA" in finding(facts(), "kernel.abilities").what
    assert "kernel.lacks" not in names(facts())
    older = facts(probe={"ctrl_ops": (), "stats": False})
    assert "FLUSH_RQ, ADD_AREA, copy counts" in finding(older, "kernel.lacks").what
    silent = facts(probe={"query": False, "register_flags": None, "features": None})
    assert finding(silent, "kernel.abilities").severity is UNKNOWN


# -- privilege and memory -------------------------------------------------------


@pytest.mark.parametrize(
    ("privilege", "permitted", "name"),
    [
        ({"net_admin": False}, False, "privilege.net_admin"),
        ({"initial_user_namespace": False}, False, "privilege.user_namespace"),
        ({}, False, "privilege.security_module"),
    ],
)
def test_privilege(privilege: dict[str, Any], permitted: bool, name: str) -> None:
    case = facts(privilege=replace(PRIVILEGE, **privilege), probe={"permitted": permitted})
    assert finding(case, name).severity is PROBLEM


def test_memlock() -> None:
    limited = replace(MEMORY, memlock_bytes=8 << 20)
    unprivileged = replace(PRIVILEGE, ipc_lock=False)
    assert finding(facts(memory=limited), "memory.memlock").severity is OK
    found = finding(facts(memory=limited, privilege=unprivileged), "memory.memlock")
    assert found.severity is PROBLEM
    assert "8 MiB" in found.what
    assert "ulimit -l 66560" in found.hint
    small = facts(
        memory=limited, privilege=unprivileged, wanted=Wanted(queue=LAST, area_bytes=4 << 20)
    )
    assert finding(small, "memory.memlock").severity is OK
    unlimited = facts(privilege=unprivileged)
    assert finding(unlimited, "memory.memlock").severity is OK


def test_available_memory() -> None:
    found = finding(facts(memory=replace(MEMORY, available_bytes=32 << 20)), "memory.available")
    assert found.severity is PROBLEM


def test_huge_pages() -> None:
    assert finding(facts(), "memory.huge").severity is OK
    used_up = replace(MEMORY, huge=(HugePages(2 << 20, 64, 0),))
    found = finding(facts(memory=used_up), "memory.huge")
    assert found.severity is NOTE
    assert found.hint == ("echo 96 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    never = replace(used_up, transparent_huge="never")
    large = facts(memory=never, wanted=Wanted(queue=LAST, rx_buf_len=32768))
    assert finding(large, "memory.huge").severity is WARNING


# -- card -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name", "hint"),
    [
        ({"up": False}, "card.up", "ip link set eth0 up"),
        (
            {"rings": rings(tcp_data_split=False)},
            "card.split",
            "ethtool -G eth0 tcp-data-split on",
        ),
        ({"rings": rings(hds_thresh=256)}, "card.hds_thresh", "ethtool -G eth0 hds-thresh 0"),
        ({"xdp_program": 7}, "card.xdp", "ip link set eth0 xdp off"),
        ({"features": {"rx-ntuple-filter": False}}, "steering.ntuple", "ethtool -K eth0 ntuple on"),
    ],
)
def test_a_card_not_set_up(changes: dict[str, Any], name: str, hint: str) -> None:
    found = finding(facts(card=on_card(**changes)), name)
    assert found.severity is PROBLEM
    assert hint in found.hint
    if found.fix is not None:
        assert found.fix.command == hint


def test_one_queue_is_not_enough() -> None:
    one = on_card(queues=on_card().state.queues[:1], channels=Channels(1, 8, 0, 0), rss=())
    case = facts(card=one, wanted=Wanted(queue=0))
    assert finding(case, "card.channels").hint == "ethtool -L eth0 combined 2"


@pytest.mark.parametrize(
    ("card", "severity", "text"),
    [
        (on_card(), OK, "can"),
        (replace(on_card(driver=None), virtual=True), PROBLEM, "no device that does DMA"),
        (on_card(driver="netdevsim"), PROBLEM, "not mapped for DMA"),
        (on_card(driver="e1000", rings=None), PROBLEM, "cannot split"),
        (on_card(driver="newnic"), UNKNOWN, "not known"),
    ],
)
def test_driver(card: Card, severity: Severity, text: str) -> None:
    found = finding(facts(card=card), "card.driver")
    assert found.severity is severity
    assert text in found.what


def test_a_card_that_never_will_is_not_looked_into_further() -> None:
    never = on_card(driver="netdevsim", up=False, xdp_program=7)
    assert not {"card.xdp", "card.up", "queue.holder"} & names(facts(card=never))


def test_preludes_of_mlx5() -> None:
    mlx5 = on_card(
        driver="mlx5_core",
        private_flags={"rx_cqe_compress": True},
        features={"rx-gro-hw": False, "rx-ntuple-filter": True},
        rings=rings(tcp_data_split=False),
    )
    found = [f.hint for f in examine(facts(card=mlx5)) if f.severity is PROBLEM]
    assert found == [
        "ethtool --set-priv-flags eth0 rx_cqe_compress off",
        "ethtool -K eth0 rx-gro-hw on",
        "ethtool -G eth0 tcp-data-split on",
    ]


def test_an_area_smaller_than_the_ring() -> None:
    found = finding(facts(card=on_card(rings=rings(rx=32768))), "card.ring")
    assert found.severity is WARNING
    assert "128 MiB" in found.what


def test_what_could_not_be_read_is_said() -> None:
    case = facts(card=on_card(unread=("read rss: EPERM",)))
    assert finding(case, "card.unread").severity is UNKNOWN


@pytest.mark.parametrize(
    ("drivers", "nodev", "severity"),
    [
        ({"eth1": "bnxt_en"}, False, NOTE),
        ({"eth0": "e1000"}, True, NOTE),
        ({"eth0": "e1000"}, False, PROBLEM),
        ({}, False, PROBLEM),
    ],
)
def test_no_interface_named(drivers: dict[str, str], nodev: bool, severity: Severity) -> None:
    case = facts(card=None, wanted=Wanted(), drivers=drivers, probe={"nodev": nodev})
    assert finding(case, "card.any").severity is severity


# -- the queue --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "name", "what", "why"),
    [
        ({"io_uring": True}, "queue.holder", "io_uring zcrx", "EEXIST"),
        ({"dmabuf": 3}, "queue.holder", "dmabuf 3", "EEXIST"),
        ({"xsk": True}, "queue.holder", "AF_XDP", "EBUSY"),
        ({"lease": Lease(9, 1, None)}, "queue.lease", "a lease of interface 9", "EOPNOTSUPP"),
    ],
)
def test_a_queue_that_is_held(by: dict[str, Any], name: str, what: str, why: str) -> None:
    found = finding(facts(card=held(**by)), name)
    assert found.severity is PROBLEM
    assert f"queue {LAST} is held by {what}" in found.what
    assert why in found.why


def test_by_whom() -> None:
    idle, busy = RingUser(7, "qemu", False), RingUser(8, "zcrx-echo", True)
    bound = held(io_uring=True)

    def said(*users: RingUser, unseen: int = 0) -> str:
        case = replace(bound, ring_users=users, unseen_processes=unseen)
        return finding(facts(card=case), "queue.holder").what

    assert "likely by zcrx-echo (8)" in said(idle, busy)
    assert "maybe by qemu (7)" in said(idle)
    assert "cannot be seen" in said(unseen=3)
    assert "others" in said(*(RingUser(n, "a", False) for n in range(4)))


def test_the_queue_in_question() -> None:
    assert facts(wanted=Wanted()).queue == LAST
    assert facts(wanted=Wanted(), card=held(io_uring=True)).queue == LAST - 1
    assert facts(wanted=Wanted(queue=1)).queue == 1
    assert facts(wanted=Wanted(), card=on_card(queues=(), channels=None)).queue is None
    found = finding(facts(wanted=Wanted(queue=9)), "queue.exists")
    assert found.severity is PROBLEM
    assert "0 to 3" in found.what
    assert "ERANGE" in found.why


# -- steering ---------------------------------------------------------------------


def test_rss_into_the_queue() -> None:
    found = finding(facts(wanted=Wanted(queue=1)), "steering.rss")
    assert found.severity is PROBLEM
    assert found.fix is not None
    # Queue 3 was kept out by somebody else, and stays so.
    assert set(found.fix.value) == {0, 2}
    assert len(found.fix.value) == 16
    weights = [found.fix.value.count(queue) for queue in (0, 1, 2)]
    assert found.hint == "ethtool -X eth0 weight " + " ".join(map(str, weights))
    all_queues = on_card(rss=(Rss(0, (0, 1, 2, 3) * 4, "", 1, 0, {}),))
    assert finding(facts(card=all_queues), "steering.rss").hint == ("ethtool -X eth0 weight 6 5 5")
    assert finding(facts(card=on_card(rss=())), "steering.rss").severity is UNKNOWN


FLOW = Flow.parse("tcp4 dst 192.0.2.1:9999")


@pytest.mark.parametrize(
    ("rules", "name", "severity"),
    [
        ((), "steering.flow", PROBLEM),
        ((rule(3, str(FLOW)),), "steering.flow", OK),
        ((rule(3, "tcp4 dst *:9999"),), "steering.flow", OK),
        ((rule(1, "tcp4 dst *:9999", 0), rule(3, str(FLOW))), "steering.shadowed", PROBLEM),
        ((rule(1, str(FLOW), None), rule(3, str(FLOW))), "steering.shadowed", PROBLEM),
        ((rule(1, None, 0), rule(3, str(FLOW))), "steering.flow", OK),
        ((rule(5, "tcp4 dst *:9999", 0), rule(3, str(FLOW))), "steering.flow", OK),
        ((rule(3, str(FLOW), 1, context=1),), "steering.flow", OK),
        ((rule(3, str(FLOW), 0, context=1),), "steering.shadowed", PROBLEM),
    ],
)
def test_where_a_flow_goes(rules: tuple[Rule, ...], name: str, severity: Severity) -> None:
    contexts = (*on_card().state.rss, Rss(1, (LAST - 1, LAST - 1), "", 1, 0, {}))
    case = facts(card=on_card(rules=rules, rss=contexts), wanted=Wanted(queue=LAST, flow=FLOW))
    assert finding(case, name).severity is severity


def test_shadowed_in_all_or_in_part() -> None:
    for other, text in (("tcp4 dst *:9999", "takes all"), ("tcp4 src *:80", "takes some")):
        case = facts(card=on_card(rules=(rule(0, other, 0),)), wanted=Wanted(queue=LAST, flow=FLOW))
        assert text in finding(case, "steering.shadowed").what


@pytest.mark.parametrize(
    ("flow", "wide"),
    [
        ("tcp4 dst 192.0.2.1:9999", False),
        ("tcp4 dst *:9999", False),
        ("tcp4 src 198.51.100.1:80", False),
        ("tcp4 dst 192.0.2.1:*", True),
        ("tcp4 src *:80", True),
        (None, True),
    ],
)
def test_rules_too_wide(flow: str | None, wide: bool) -> None:
    case = facts(card=on_card(rules=(rule(2, flow), rule(3, flow, 0))))
    found = [f for f in examine(case) if f.id == "steering.wide"]
    assert len(found) == wide
    if found:
        assert "delete 2" in found[0].hint


def test_covers() -> None:
    whole = Flow.parse("tcp4 dst 192.0.2.0/24:*")
    assert covers(whole, FLOW)
    assert not covers(FLOW, whole)
    assert not covers(Flow.parse("tcp6 dst *:9999"), FLOW)


# -- placement and the rest -----------------------------------------------------------


def test_placement() -> None:
    assert finding(facts(), "placement.irq").severity is OK
    crowded = facts(machine=Machine(frozenset({0}), {}))
    assert finding(crowded, "placement.irq").severity is WARNING
    far = Machine(frozenset({0, 1}), {0: frozenset({2, 3}), 1: frozenset({0, 1})})
    assert finding(facts(machine=far), "placement.node").severity is WARNING
    assert finding(facts(machine=far), "placement.irq_node").severity is WARNING
    near = Machine(frozenset({2}), {0: frozenset({0, 2, 3}), 1: frozenset({1})})
    assert finding(facts(machine=near), "placement.node").severity is OK
    blind = facts(card=on_card(irqs=()))
    assert finding(blind, "placement.irq").severity is UNKNOWN


def test_napi_settings_are_told() -> None:
    napis = tuple(Napi(100 + i, 30 + i, 42, 1, 2, 20_000, 5_000_000) for i in range(QUEUES))
    text = finding(facts(card=on_card(napis=napis)), "placement.napi").what
    assert "a thread (pid 42), 2 interrupts deferred, gro-flush-timeout 20 us" in text
    assert "irq-suspend-timeout 5000 us" in text


def test_a_queue_without_napi_and_irq_in_two_places() -> None:
    queues = (*on_card().state.queues[:-1], Queue(LAST, None, False, None, None, False, None))
    assert "placement.napi" not in names(facts(card=on_card(queues=queues)))
    spread = tuple(Irq(30 + i, "", "0-3", "0-1") for i in range(QUEUES))
    one = facts(card=on_card(irqs=spread), machine=Machine(frozenset({1}), {}))
    assert finding(one, "placement.irq").severity is WARNING


@pytest.mark.parametrize(("cleared", "severity"), [(True, OK), (False, WARNING), (None, WARNING)])
def test_urgent_data(cleared: bool | None, severity: Severity) -> None:
    case = facts(card=replace(on_card(), urgent_cleared=cleared))
    assert finding(case, "urgent.rule").severity is severity


def test_journals() -> None:
    def found(state: str, pid: int = 7) -> list[Finding]:
        card = replace(on_card(), leftovers=(Leftover("7-1", pid, (LAST,), 3, state),))
        return [f for f in examine(facts(card=card)) if f.id.startswith("journal.")]

    assert found("live")[0].severity is OK
    assert found("kept", pid=0)[0].severity is NOTE
    (stale,) = found("stale")
    assert stale.severity is WARNING
    assert "3 changes" in stale.what
    assert stale.hint == "zcrx-nic restore --stale eth0"
    for state in ("damaged", "newer", "foreign"):
        (unusable,) = found(state)
        assert (unusable.id, unusable.severity) == (f"journal.{state}", WARNING)
    assert "restore of the newer pyzcrx" in found("newer")[0].hint
    assert not [f for f in names(facts()) if f.startswith("journal.")]
    unseen = facts(card=replace(on_card(), leftovers=None))
    assert finding(unseen, "journal.unseen").severity is UNKNOWN

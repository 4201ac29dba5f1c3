"""Steering: what comes to the queue, and what should and does not."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Fix, Severity
from pyzcrx.nic import settings
from pyzcrx.nic.drivers import driver_of
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.plan import without
from pyzcrx.nic.state import Rule, State

STRANGERS = (
    "whatever else lands there is lost to its owner: a plain recv() fails with EFAULT; "
    "and we would see it"
)
UNSPLIT = "; {driver} drops what is not split there, ARP and ND too"


def check(facts: Facts) -> Iterator[Finding]:
    if facts.card is None or facts.queue is None or facts.card.state.rx_queues < 2:
        return
    state, queue = facts.card.state, facts.queue
    yield from _rss(state, queue)
    yield from _ntuple(state)
    yield from _rules(state, queue)
    if facts.wanted.flow is not None:
        yield _flow(state, queue, facts.wanted.flow)
    elif not any(queue in queues_of(state, rule) for rule in state.rules or ()):
        yield Finding(
            "steering.none",
            Severity.NOTE,
            f"no rule steers anything to queue {queue}",
            "nothing arrives there until one does",
            f"zcrx-doctor -i {state.interface} --flow 'tcp4 dst ADDRESS:PORT' says which",
        )


def queues_of(state: State, rule: Rule) -> frozenset[int]:
    """Where a rule's packets may go."""
    if rule.queue is None:
        return frozenset()
    if rule.context is None:
        return frozenset({rule.queue})
    # With a context the rule's queue is added to the table's.
    tables = [rss.table for rss in state.rss if rss.context == rule.context]
    return frozenset(queue + rule.queue for table in tables for queue in table)


def lost(state: State) -> str:
    """What becomes of strangers' packets."""
    drops = driver_of(state).drops_unsplit
    return STRANGERS + (UNSPLIT.format(driver=state.driver) if drops else "")


def _rss(state: State, queue: int) -> Iterator[Finding]:
    default = next((rss for rss in state.rss if rss.context == 0), None)
    if default is None or not default.table:
        yield Finding(
            "steering.rss",
            Severity.UNKNOWN,
            "which queues RSS spreads packets over cannot be read",
            lost(state),
            f"see ethtool -x {state.interface}",
        )
        return
    if queue not in default.table:
        yield Finding("steering.rss", Severity.OK, f"RSS leaves queue {queue} alone")
        return
    share = default.table.count(queue) / len(default.table)
    table = list(without(default.table, [queue], state.rx_queues))
    command = settings.command(state.interface, "rss", table)
    yield Finding(
        "steering.rss",
        Severity.PROBLEM,
        f"RSS spreads packets over queue {queue} too ({100 * share:.0f}% of all flows)",
        lost(state),
        command,
        Fix("rss", table, command),
    )


def _ntuple(state: State) -> Iterator[Finding]:
    on = state.features.get("rx-ntuple-filter")
    if on is False:
        command = f"ethtool -K {state.interface} ntuple on"
        yield Finding(
            "steering.ntuple",
            Severity.PROBLEM,
            "ntuple filters are off",
            "no flow can be steered to the queue",
            command,
            Fix("feature:rx-ntuple-filter", True, command),
        )
    elif state.rules is None and on:
        yield Finding(
            "steering.ntuple",
            Severity.PROBLEM,
            "ntuple filters are on, and the rules cannot be read",
            "no flow can be steered to the queue",
            "see dmesg; where the device does not answer its driver: "
            f"ethtool --reset {state.interface} all",
        )
    elif state.rules is None:
        yield Finding(
            "steering.ntuple",
            Severity.WARNING,
            "the NIC has no ntuple filters",
            "no flow can be steered to the queue; RSS alone is too wide",
            f"use another NIC: all traffic on one queue would lose ARP and ND with {state.driver}"
            if driver_of(state).drops_unsplit
            else "use an RSS table that sends all to one queue, on a NIC for zcrx alone",
        )


def _rules(state: State, queue: int) -> Iterator[Finding]:
    for rule in state.rules or ():
        if queue in queues_of(state, rule) and (reason := too_wide(rule)):
            yield Finding(
                "steering.wide",
                Severity.WARNING,
                f"rule {rule.location} ({rule.flow or 'not of TCP'}) brings {reason} "
                f"to queue {queue}",
                lost(state),
                f"ethtool -N {state.interface} delete {rule.location}, then a narrower one: "
                "address and port of the service",
            )


def too_wide(rule: Rule) -> str | None:
    """Whom a rule brings besides one service."""
    if rule.flow is None:
        return "other protocols"
    flow = Flow.parse(rule.flow)
    if not flow.dst_port and not (flow.src_port and flow.src is not None):
        return "every port"
    return None


def _flow(state: State, queue: int, flow: Flow) -> Finding:
    """Where the flow goes: the lowest location that matches decides."""
    found = None
    for rule in sorted(state.rules or (), key=lambda rule: rule.location):
        if rule.flow is None:
            continue
        other = Flow.parse(rule.flow)
        if other.overlaps(flow):
            if queues_of(state, rule) == {queue}:
                found = rule
                break
            whole = "all" if covers(other, flow) else "some"
            return Finding(
                "steering.shadowed",
                Severity.PROBLEM,
                f"rule {rule.location} ({rule.flow}) takes {whole} of {flow} elsewhere",
                "the rule with the lowest location decides; what another queue receives is "
                "copied, or lost to another program",
                f"ethtool -N {state.interface} delete {rule.location}",
            )
    if found is not None:
        return Finding(
            "steering.flow", Severity.OK, f"rule {found.location} steers {flow} to queue {queue}"
        )
    command = f"ethtool -N {state.interface} {flow.ethtool()} action {queue}"
    return Finding(
        "steering.flow",
        Severity.PROBLEM,
        f"no rule steers {flow} to queue {queue}",
        "what arrives elsewhere is copied by the kernel, all of it",
        command,
        Fix("rule", [str(flow), queue], command),
    )


def covers(wide: Flow, narrow: Flow) -> bool:
    """Whether every packet of *narrow* matches *wide*."""
    pairs = ((wide.dst, narrow.dst), (wide.src, narrow.src))
    networks = all(
        one is None or (other is not None and other.subnet_of(one))  # type: ignore[arg-type]
        for one, other in pairs
    )
    return (
        wide.protocol == narrow.protocol
        and networks
        and wide.dst_port in (0, narrow.dst_port)
        and wide.src_port in (0, narrow.src_port)
    )

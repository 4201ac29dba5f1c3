"""What is to be done with a NIC: from its state and what is wanted, to steps. Pure.

Refuses, with what to do about it, whatever could not work or would hurt others.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from pyzcrx._common.checked import MOST_BYTES, integer, optional
from pyzcrx._kernel.endpoint import address_of
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.errors import (
    BadArgument,
    NicBusy,
    NicUnsupported,
    RuleExists,
    RuleTableFull,
    RuleTooBroad,
)
from pyzcrx.nic import irq
from pyzcrx.nic.drivers import driver_of, prelude, too_small
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.settings import NAPI_FIELDS, Value, check_napi
from pyzcrx.nic.sockets import TcpSocket, strangers
from pyzcrx.nic.state import Rule, State
from pyzcrx.nic.steps import Context, Set, Steer, Step

NTUPLE = "rx-ntuple-filter"
_MOST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a NIC shall do for us.

    flows: what is to be steered. queue: the first rx queue, None: the plan chooses.
    queues: how many; more than one share the flows by an RSS context, or in_turn:
    the first flow goes to the first queue, the next to the next. rx_ring: entries
    of the rx rings. irq_cpus: where the queues' interrupts go, like "2,3".
    napi: settings of the queues' NAPI instances, by the names of
    :data:`pyzcrx.nic.settings.NAPI_FIELDS`. force: take data from other sockets
    and rules, if that is how the flows are. area_bytes: the size of the area that is to be
    registered; a warning says so if nothing could arrive in it.
    """

    flows: tuple[Flow, ...] = ()
    queue: int | None = None
    queues: int = 1
    rx_ring: int | None = None
    irq_cpus: str | None = None
    napi: dict[str, int] = field(default_factory=dict)
    force: bool = False
    in_turn: bool = False
    area_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("queue", optional("queue", self.queue, 0, _MOST)),
            ("queues", integer("queues", self.queues, 1, _MOST)),
            ("rx_ring", optional("rx_ring", self.rx_ring, 1, _MOST)),
            ("area_bytes", optional("area_bytes", self.area_bytes, 1, MOST_BYTES)),
        ):
            object.__setattr__(self, name, value)
        if self.irq_cpus is not None:
            irq.parse_cpus(self.irq_cpus)
        napi = {name: check_napi(name, value) for name, value in self.napi.items()}
        object.__setattr__(self, "napi", napi)


@dataclass(frozen=True, slots=True)
class Plan:
    """``steps``, in order, for ``queues`` of ``interface`` (``ifindex``); ``warnings`` of them."""

    interface: str
    ifindex: int
    queues: tuple[int, ...]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    def commands(self) -> tuple[str, ...]:
        """The equal command lines; settings that are as they should be are left out."""
        return tuple(
            step.command(self.interface)
            for step in self.steps
            if not (isinstance(step, Set) and step.idle)
        )


def listening_flows(
    state: State, port: int, host: str | None = None, *, ipv6: bool = True
) -> tuple[Flow, ...]:
    """Flows to a server on *port*: of address *host*, or of every address of the interface.

    state: the interface, as :func:`read` gives it. host: an address; None or one of zeros: all.
    ipv6: whether those of IPv6 count. Raises BadArgument where there is none.

    A rule for each address rather than one for the port: packets that the NIC
    only passes on, to a virtual machine say, keep their way. An address that the
    interface gets later is not steered; its connections work, by copying.
    """
    port = integer("port", port, 0, 65535)
    if host is not None and address_of(host)[0].is_unspecified:
        ipv6, host = address_of(host)[0].version == 6, None
    flows = []
    for text in state.addresses if host is None else (host,):
        address, scope = address_of(text)
        if scope and scope not in (state.interface, str(state.ifindex)):
            raise BadArgument(f"{text} is not an address of {state.interface}")
        if address.version == 6 and not ipv6:
            continue
        protocol = "tcp4" if address.version == 4 else "tcp6"
        flows.append(Flow(protocol, ip_network(address), port))  # type: ignore[arg-type]
    if not flows:
        raise BadArgument(f"{state.interface} has no address to receive on; see ip address")
    return tuple(flows)


def plan(
    state: State,
    wanted: Wanted,
    sockets: Iterable[TcpSocket] = (),
    own: frozenset[int] = frozenset(),
) -> Plan:
    """The steps for *wanted* on a NIC in *state*.

    sockets: all of this network namespace, own: inodes of those that the flows are
    for. Raises NicUnsupported, NicBusy, RuleExists, RuleTableFull, RuleTooBroad,
    OutOfRange, BadArgument.
    """
    _check_card(state)
    queues = _choose(state, wanted)
    if not wanted.force:
        check_flows(wanted.flows, sockets, own)
    warnings = [*driver_of(state).notes, *check_rules(state, wanted, queues)]
    if wanted.area_bytes is not None and (reason := too_small(state, wanted.area_bytes)):
        warnings.append(f"{reason}; use a larger one (pyzcrx.area_advice)")
    steps: list[Step] = [_set(state, key, value) for key, value in prelude(state)]
    if wanted.flows:
        steps.append(_set(state, f"feature:{NTUPLE}", True))
    rings = state.rings
    assert rings is not None
    if wanted.rx_ring is not None:
        if rings.rx_max is not None and not 0 < wanted.rx_ring <= rings.rx_max:
            raise BadArgument(f"rx ring {wanted.rx_ring}: {state.interface} has {rings.rx_max}")
        steps.append(Set("rx-ring", rings.rx, wanted.rx_ring, rings.rx))
    # Always set: what reads as enabled may only be the driver's choice.
    seen = "on" if rings.tcp_data_split else "off"
    steps.append(Set("tcp-data-split", "auto", "on", seen))
    # Where the driver has no hds-thresh the kernel's own is 0 (net/ethtool/rings.c).
    if rings.hds_thresh is not None:
        steps.append(Set("hds-thresh", rings.hds_thresh, 0, rings.hds_thresh))
    rss, warning = _keep_off(state, queues)
    steps += rss
    warnings += warning
    context = None
    if wanted.queues > 1 and wanted.flows and not wanted.in_turn:
        context = _context(state, queues)
        steps.append(context)
    for i, flow in enumerate(wanted.flows):
        if context is None:
            steps.append(Steer(str(flow), queues[i % len(queues)]))
        else:
            steps.append(Steer(str(flow), 0, context.number))
    steps += _placement(state, wanted, queues)
    return Plan(state.interface, state.ifindex, queues, tuple(steps), tuple(warnings))


def _set(state: State, key: str, value: Value) -> Set:
    kind, _, name = key.partition(":")
    values = state.features if kind == "feature" else state.private_flags
    return Set(key, values[name], value, values[name])


# -- refusals -------------------------------------------------------------------


def _check_card(state: State) -> None:
    name = state.interface
    if state.rings is None or state.rings.tcp_data_split is None:
        raise NicUnsupported(
            f"{name} (driver {state.driver or 'unknown'}) has no header split, so no zcrx",
            driver_of(state).split_needs
            or "use a NIC that has it (bnxt, mlx5, gve, fbnic), or NODEV",
        )
    if not state.up:
        raise NicUnsupported(f"{name} is down", f"ip link set {name} up")
    if state.xdp_program is not None:
        raise NicBusy(
            f"{name} has an XDP program (id {state.xdp_program}), which zcrx excludes",
            f"ip link set {name} xdp off",
        )
    if state.rx_queues < 2:
        raise NicUnsupported(
            f"{name} has one queue only, and all other traffic needs one too",
            _more_queues(state, 2),
        )


def _more_queues(state: State, wanted: int) -> str:
    return state.more_queues(wanted) or (
        "use a NIC that has more" if state.channels else "see ethtool -l"
    )


def _choose(state: State, wanted: Wanted) -> tuple[int, ...]:
    """Queues that nobody has: the last ones, as the first serve everything else."""
    total, name = state.rx_queues, state.interface
    if wanted.queues >= total:
        raise NicUnsupported(
            f"{name} has {total} queues; {wanted.queues} for zcrx leave none for the rest",
            _more_queues(state, wanted.queues + 1),
        )
    fixed = driver_of(state).fixed_queues
    if wanted.queue is not None:
        chosen = tuple(range(wanted.queue, wanted.queue + wanted.queues))
        if chosen[-1] >= total:
            raise kernel_error(errno.ERANGE, "choose queue", f"{name} has queues 0 to {total - 1}")
        for index in chosen:
            if index in fixed:
                raise NicUnsupported(
                    f"queue {index} of {name} cannot be bound: {state.driver} never restarts it",
                    "choose another queue",
                )
            holder = _holder(state, index)
            if holder is not None and not (wanted.force and _is_lent(state, index)):
                raise NicBusy(
                    f"queue {index} of {name} is held by {holder}",
                    "end its user or choose another queue",
                )
        return chosen
    targets = {rule.queue for rule in state.rules or () if rule.context is None}
    contexts = {queue for rss in state.rss[1:] for queue in rss.table}
    free = [
        index
        for index in reversed(range(total))
        if _holder(state, index) is None and index not in targets | contexts | fixed
    ]
    if len(free) < wanted.queues:
        more = state.more_queues(total + wanted.queues - len(free))
        raise NicBusy(
            f"{name} has {len(free)} free queues of {total}, {wanted.queues} wanted: the others "
            "are held, or rules or RSS contexts lead to them"
            + (f", or {state.driver} never restarts them" if fixed else ""),
            f"end their users (zcrx-nic show {name})" + (f", or: {more}" if more else ""),
        )
    return tuple(sorted(free[: wanted.queues]))


def _holder(state: State, index: int) -> str | None:
    queue = state.queue(index)
    return None if queue is None else queue.holder


def _is_lent(state: State, index: int) -> bool:
    """Whether it is only leased, and its lessee (netkit) does not use it yet."""
    queue = state.queue(index)
    return queue is not None and replace(queue, lease=None).holder is None


def check_flows(flows: Sequence[Flow], sockets: Iterable[TcpSocket], own: frozenset[int]) -> None:
    for flow in flows:
        if not flow.dst_port and not flow.src_port:
            raise RuleTooBroad(
                f"{flow} is all TCP of that kind, remote logins as well",
                "name a port, or force it",
            )
    caught = strangers(flows, sockets, own)
    if caught:
        more = f" and {len(caught) - 1} more" if len(caught) > 1 else ""
        raise RuleTooBroad(
            f"the rule would take data from {caught[0]}{more}",
            "narrow the flow (address, port, source), end that program, or force it",
        )


def check_rules(state: State, wanted: Wanted, queues: Sequence[int]) -> list[str]:
    if not wanted.flows:
        return []
    name = state.interface
    if state.rules is None and NTUPLE in state.features:
        raise NicUnsupported(
            f"{name} has ntuple rules that cannot be read, so flows cannot be steered",
            f"see dmesg; where the device does not answer its driver: ethtool --reset {name} all",
        )
    if state.rules is None or NTUPLE not in state.features:
        raise NicUnsupported(
            f"{name} has no ntuple rules, so flows cannot be steered",
            "choose a queue and steer by other means, without flows",
        )
    if len(set(wanted.flows)) < len(wanted.flows):
        raise BadArgument("a flow is given twice")
    if state.rule_slots and len(state.rules) + len(wanted.flows) > state.rule_slots:
        raise RuleTableFull(
            errno.ENOSPC,
            f"insert rule ({name})",
            f"{len(state.rules)} of {state.rule_slots} rules are taken, "
            f"{len(wanted.flows)} more are needed",
            "delete rules (ethtool -n, -N ... delete), or listen on one address",
        )
    return [text for rule in state.rules for text in _check_rule(rule, wanted, queues)]


def _check_rule(rule: Rule, wanted: Wanted, queues: Sequence[int]) -> list[str]:
    text = rule.flow or "a rule of another kind"
    warnings = []
    if rule.context is None and rule.queue in queues:
        if not wanted.force:
            raise RuleTooBroad(
                f"rule {rule.location} leads {text} to queue {rule.queue} already",
                "choose another queue, delete the rule, or force it",
            )
        warnings.append(f"rule {rule.location} ({text}) leads to queue {rule.queue} as well")
    if rule.flow is not None:
        theirs = Flow.parse(rule.flow)
        for ours in wanted.flows:
            if theirs == ours:
                raise RuleExists(
                    f"rule {rule.location} is for {text} already",
                    "end its program, or zcrx-nic restore, or ethtool -N IF delete "
                    f"{rule.location}",
                )
            if theirs.overlaps(ours):
                warnings.append(f"rule {rule.location} ({text}) overlaps {ours}")
    return warnings


# -- RSS ------------------------------------------------------------------------


def without(table: Sequence[int], queues: Sequence[int], total: int) -> tuple[int, ...]:
    """An RSS table that leaves *queues* out and moves no other flow.

    Their places go round the others in the proportions that those have, and so do places of
    queues that are gone: a driver may leave its table as it is when its channels change.
    """
    usable = {*range(total)}.difference(queues)
    kept = [queue for queue in table if queue in usable] or sorted(usable)
    moved = iter(range(len(table)))
    return tuple(queue if queue in usable else kept[next(moved) % len(kept)] for queue in table)


def _keep_off(state: State, queues: Sequence[int]) -> tuple[list[Step], list[str]]:
    if not state.rss or not state.rss[0].table:
        return [], [f"{state.interface} has no RSS table: other traffic may come to the queue"]
    rss = state.rss[0]
    table = list(rss.table)
    after = list(without(table, queues, state.rx_queues))
    before = None if rss.is_default(state.rx_queues) else table
    if max(table) >= state.rx_queues:  # the kernel takes no such table back: its own spread
        before, table = None, [index % state.rx_queues for index in range(len(table))]
    warnings = [
        f"RSS context {other.context} leads to queue {queue} as well"
        for other in state.rss[1:]
        for queue in queues
        if queue in other.table
    ]
    # Held also where nothing has to change: the one before us may change it back.
    return [Set("rss", after if after == list(rss.table) else before, after, table)], warnings


def _context(state: State, queues: Sequence[int]) -> Context:
    taken = {rss.context for rss in state.rss}
    number = next(i for i in range(1, len(taken) + 2) if i not in taken)
    size = len(state.rss[0].table) if state.rss else 0
    if not size:
        raise NicUnsupported(
            f"{state.interface} has no RSS, so queues cannot share", "use one queue"
        )
    return Context(number, tuple(queues[i % len(queues)] for i in range(size)))


# -- placement --------------------------------------------------------------------


def _placement(state: State, wanted: Wanted, queues: Sequence[int]) -> list[Step]:
    steps: list[Step] = []
    for index in queues:
        if wanted.irq_cpus is not None:
            found = state.irq_of(index)
            if found is None:
                raise NicUnsupported(
                    f"the interrupt of queue {index} of {state.interface} is not known",
                    "leave its CPUs out",
                )
            cpus = irq.format_cpus(irq.parse_cpus(wanted.irq_cpus))
            steps.append(Set(f"irq:{found.number}", found.cpus, cpus, found.cpus))
        napi = state.napi_of(index)
        for name, value in wanted.napi.items():
            if napi is None:
                raise NicUnsupported(
                    f"the NAPI instance of queue {index} of {state.interface} is not known",
                    "leave its settings out",
                )
            now = getattr(napi, NAPI_FIELDS[name])
            steps.append(Set(f"napi:{index}:{name}", now, value, now))
    return steps

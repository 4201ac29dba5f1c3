"""The NIC as a whole: its driver, header split, channels, XDP."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx._pressure.policy import area_advice
from pyzcrx.doctor.facts import Card, Facts
from pyzcrx.doctor.finding import Finding, Fix, Severity
from pyzcrx.doctor.memory import mib
from pyzcrx.nic.drivers import ABLE, driver_of, prelude, too_small
from pyzcrx.nic.state import State

OTHER_CARD = "use a NIC with zcrx support (bnxt, mlx5, gve, fbnic), or NODEV"


def check(facts: Facts) -> Iterator[Finding]:
    if facts.card is None:
        yield _somewhere(facts)
        return
    state = facts.card.state
    driver = _driver(facts.card)
    yield driver
    if driver.severity is Severity.PROBLEM:
        return  # nothing else of it matters
    if not state.up:
        yield Finding(
            "card.up",
            Severity.PROBLEM,
            f"{state.interface} is down",
            "nothing arrives, and mlx5 refuses the registration with EOPNOTSUPP",
            f"ip link set {state.interface} up",
        )
    elif not state.carrier:
        yield Finding(
            "card.carrier",
            Severity.WARNING,
            f"{state.interface} has no carrier",
            "nothing arrives",
            f"see ethtool {state.interface}",
        )
    yield from _split(state)
    yield from _restart(state)
    yield from _channels(state)
    yield from _xdp(state)
    yield from _ring(facts, state)
    for text in state.unread:
        yield Finding("card.unread", Severity.UNKNOWN, f"could not be read: {text}")


def _somewhere(facts: Facts) -> Finding:
    """No interface was named: whether there is one, or NODEV."""
    able = [name for name, driver in facts.drivers.items() if driver in ABLE]
    if able:
        return Finding(
            "card.any",
            Severity.NOTE,
            "NICs with zcrx drivers: " + ", ".join(able),
            hint=f"zcrx-doctor -i {able[0]} looks at it",
        )
    seen = ", ".join(f"{name} ({driver})" for name, driver in facts.drivers.items()) or "none"
    if facts.kernel.probe.nodev:
        return Finding(
            "card.any",
            Severity.NOTE,
            f"no NIC here has a zcrx driver ({seen}); NODEV works without one",
            "NODEV copies: it is for development, and for streams that a NIC does not split",
        )
    return Finding(
        "card.any",
        Severity.PROBLEM,
        f"no NIC here has a zcrx driver ({seen}), and the kernel has no NODEV",
        "there is nothing to receive on",
        "use a NIC with zcrx support (bnxt, mlx5, gve, fbnic), or Linux 7.2 and NODEV",
    )


def _driver(card: Card) -> Finding:
    state = card.state
    name = state.driver or "an unnamed driver"
    if state.driver == "netkit" and any(queue.lease for queue in state.queues):
        return Finding("card.driver", Severity.OK, "driver netkit, with a leased queue")
    known = driver_of(state)
    splits = state.rings is not None and state.rings.tcp_data_split is not None
    if known.since and splits:
        return Finding("card.driver", Severity.OK, f"driver {name} can (since Linux {known.since})")
    reason = known.unable
    if card.virtual or reason:
        return Finding(
            "card.driver",
            Severity.PROBLEM,
            f"{state.interface} ({name}) cannot receive by zero-copy: "
            + (reason or "it has no device that does DMA"),
            "a registration is answered with EOPNOTSUPP",
            OTHER_CARD,
        )
    if not splits:
        return Finding(
            "card.driver",
            Severity.PROBLEM,
            f"driver {name} cannot split headers from payload"
            + (" on this device, as it is set now" if known.since else ""),
            "zcrx gives the NIC memory for payload alone; a registration is answered with "
            "EINVAL or EOPNOTSUPP",
            known.split_needs or OTHER_CARD,
        )
    return Finding(
        "card.driver",
        Severity.UNKNOWN,
        f"driver {name} is not known to us; whether it has queue operations cannot be read",
        "without them a registration is answered with EOPNOTSUPP",
        "zcrx-doctor --trial tries it (restarts the queue)",
    )


def _preludes(state: State) -> Iterator[Finding]:
    for key, value in prelude(state):
        kind, _, name = key.partition(":")
        now = (state.private_flags if kind == "private-flag" else state.features)[name]
        if now is value:
            continue
        option = "--set-priv-flags" if kind == "private-flag" else "-K"
        command = f"ethtool {option} {state.interface} {name} {'on' if value else 'off'}"
        yield Finding(
            f"card.{name}",
            Severity.PROBLEM,
            f"{name} is {'on' if now else 'off'}",
            f"{state.driver} splits headers only with it {'on' if value else 'off'}",
            command,
            Fix(key, value, command),
        )


def _split(state: State) -> Iterator[Finding]:
    rings = state.rings
    if rings is None or rings.tcp_data_split is None:
        return
    command = f"ethtool -G {state.interface} tcp-data-split on"
    fix = Fix("tcp-data-split", "on", command)
    if not rings.tcp_data_split:
        yield from _preludes(state)
        yield Finding(
            "card.split",
            Severity.PROBLEM,
            "header split is off",
            "the kernel must read headers and cannot read an area; a registration is answered "
            "with EINVAL",
            command,
            fix,
        )
    else:
        yield Finding(
            "card.split",
            Severity.UNKNOWN,
            "header split is on; whether it was asked for, or is the driver's choice, "
            "cannot be read",
            "a registration needs it asked for (EINVAL otherwise); asking again is harmless",
            command,
            fix,
        )
    if rings.hds_thresh:
        command = f"ethtool -G {state.interface} hds-thresh 0"
        yield Finding(
            "card.hds_thresh",
            Severity.PROBLEM,
            f"hds-thresh is {rings.hds_thresh}: smaller packets are not split",
            "a registration is answered with EINVAL",
            f"{command} (an ethtool of 6.15 or newer), or zcrx-doctor --fix",
            Fix("hds-thresh", 0, command),
        )


def _restart(state: State) -> Iterator[Finding]:
    """What a binding does to the rest of the NIC."""
    driver = driver_of(state)
    if driver.restart:
        yield Finding(
            "card.restart",
            Severity.NOTE,
            f"each binding of a queue, and its end, {driver.restart}",
            "bonds fail over, and programs that watch the link see it",
            "bind once and keep the queue; do not do it under traffic that cannot wait",
        )


def _channels(state: State) -> Iterator[Finding]:
    if state.rx_queues == 1:
        yield Finding(
            "card.channels",
            Severity.PROBLEM,
            "the NIC receives on one queue only",
            "zcrx takes a queue for itself: plain sockets whose packets land there fail with "
            "EFAULT, so the rest needs another",
            state.more_queues(2) or OTHER_CARD,
        )


def _xdp(state: State) -> Iterator[Finding]:
    if state.xdp_program is not None:
        yield Finding(
            "card.xdp",
            Severity.PROBLEM,
            f"XDP program {state.xdp_program} is attached",
            "a program would read memory that it cannot; a registration is answered with EEXIST",
            f"ip link set {state.interface} xdp off, or end the program that holds it "
            "(bpftool net)",
        )


def _ring(facts: Facts, state: State) -> Iterator[Finding]:
    """Whether the area has room for more than what the NIC keeps of it."""
    area_bytes = facts.wanted.area_bytes
    if (reason := too_small(state, area_bytes)) is not None:
        yield Finding(
            "card.area",
            Severity.PROBLEM,
            reason,
            "nothing arrives until the area grows (pressure=), ARP and ND neither where they are "
            "steered to the queue",
            "a larger area",
        )
        return
    if state.rings is None or not state.rings.rx:
        return
    advice = area_advice(
        rx_ring_entries=state.rings.rx, mtu=state.mtu, rx_buf_len=facts.wanted.rx_buf_len
    )
    if area_bytes < advice.least_bytes:
        yield Finding(
            "card.ring",
            Severity.WARNING,
            f"a ring of {state.rings.rx} keeps {mib(advice.least_bytes)}, and the area has "
            f"{mib(area_bytes)}",
            "the NIC then starves, whatever the program gives back, and what must be copied "
            "(it arrived before the queue was bound) finds no room: AreaExhausted",
            f"an area of {mib(advice.size_bytes)}, or: ethtool -G {state.interface} rx "
            f"{max(64, state.rings.rx // 4)} (where the driver takes so few)",
        )

"""The NIC as a whole: its driver, header split, channels, XDP."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Card, Facts
from pyzcrx.doctor.finding import Finding, Fix, Severity
from pyzcrx.doctor.memory import mib
from pyzcrx.nic.drivers import prelude
from pyzcrx.nic.state import State

DRIVERS = {
    "bnxt_en": "6.15",
    "gve": "6.15",
    "mlx5_core": "6.16",
    "fbnic": "6.18",
    "zcrxsim": "6.15",
}
"""Drivers with queue operations and a memory provider, and since which kernel."""
UNABLE = {
    "netdevsim": "its buffers are not mapped for DMA",
    "virtio_net": "the driver has no queue operations for it",
}
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
    yield from _channels(state)
    yield from _xdp(state)
    yield from _ring(facts, state)
    for text in state.unread:
        yield Finding("card.unread", Severity.UNKNOWN, f"could not be read: {text}")


def _somewhere(facts: Facts) -> Finding:
    """No interface was named: whether there is one, or NODEV."""
    able = [name for name, driver in facts.drivers.items() if driver in DRIVERS]
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
    if state.driver in DRIVERS:
        since = DRIVERS[state.driver]
        return Finding("card.driver", Severity.OK, f"driver {name} can (since Linux {since})")
    reason = UNABLE.get(state.driver or "")
    if card.virtual or reason:
        return Finding(
            "card.driver",
            Severity.PROBLEM,
            f"{state.interface} ({name}) cannot receive by zero-copy: "
            + (reason or "it has no device that does DMA"),
            "a registration is answered with EOPNOTSUPP",
            OTHER_CARD,
        )
    if state.rings is None or state.rings.tcp_data_split is None:
        return Finding(
            "card.driver",
            Severity.PROBLEM,
            f"driver {name} cannot split headers from payload",
            "zcrx gives the NIC memory for payload alone; a registration is answered with "
            "EINVAL or EOPNOTSUPP",
            OTHER_CARD,
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


def _channels(state: State) -> Iterator[Finding]:
    if state.rx_queues == 1:
        most = state.channels.combined_max or state.channels.rx_max if state.channels else 0
        yield Finding(
            "card.channels",
            Severity.PROBLEM,
            "the NIC receives on one queue only",
            "zcrx takes a queue for itself: plain sockets whose packets land there fail with "
            "EFAULT, so the rest needs another",
            f"ethtool -L {state.interface} combined 2" if most > 1 else OTHER_CARD,
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
    """Whether the area can keep the queue's ring posted."""
    if state.rings is None or not state.rings.rx:
        return
    buffer_bytes = facts.wanted.rx_buf_len or facts.memory.page_bytes
    posted = state.rings.rx * -(-state.mtu // buffer_bytes) * buffer_bytes
    if posted > facts.wanted.area_bytes:
        yield Finding(
            "card.ring",
            Severity.WARNING,
            f"a ring of {state.rings.rx} posts {mib(posted)}, more than an area of "
            f"{mib(facts.wanted.area_bytes)}",
            "the NIC then starves, whatever the program gives back",
            f"an area of {mib(2 * posted)} or more, or: ethtool -G {state.interface} rx "
            f"{max(64, state.rings.rx // 4)}",
        )

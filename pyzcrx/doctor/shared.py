"""What the doctor saw, as one text that its user can send: no address, no name of a host.

The facts lose everything that names somebody, and only then are the findings made of them.
"""

from __future__ import annotations

import datetime
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyzcrx
from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding
from pyzcrx.nic.state import State

INTERFACE = "IF"
COLUMNS = (
    "date",
    "driver",
    "device",
    "firmware",
    "machine",
    "kernel",
    "rx queues",
    "rx ring",
    "header split",
    "trial",
)
"""Of a row in docs/reference/nics-seen.md."""
_SUBJECTS = {"kernel", "bug", "privilege", "memory", "card", "queue", "urgent", "trial"}
"""Subjects of the machine and the NIC. The others are of this user's flows and programs."""


def anonymous(facts: Facts, host: str | None = None) -> Facts:
    """The same facts without what names a host, a peer or a program."""
    host = socket.gethostname() if host is None else host

    def hidden(text: str) -> str:
        for name in filter(None, (host, host.partition(".")[0])):  # the longer one first
            alone = rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])"
            text = re.sub(alone, "HOST", text, flags=re.IGNORECASE)
        return text

    kernel = replace(
        facts.kernel,
        probe=replace(facts.kernel.probe, kernel=hidden(facts.kernel.probe.kernel)),
        config_source=hidden(facts.kernel.config_source),
    )
    card = facts.card
    if card is not None:
        name = card.state.interface
        unread = (re.sub(rf"\b{re.escape(name)}\b", INTERFACE, text) for text in card.state.unread)
        state = replace(
            card.state,
            interface=INTERFACE,
            addresses=(),
            rules=card.state.rules and tuple(replace(r, flow=None) for r in card.state.rules),
            unread=tuple(unread),
        )
        card = replace(card, state=state, ring_users=(), leftovers=())
    return replace(facts, kernel=kernel, card=card, wanted=replace(facts.wanted, flow=None))


def text(facts: Facts, findings: Sequence[Finding], today: datetime.date) -> str:
    """The report, of facts that are anonymous, and findings of those."""
    lines = [
        f"zcrx-doctor --report, pyzcrx {pyzcrx.__version__}, {today}",
        "It has no addresses, no host name and no interface name. Read it before you send it.",
        "",
        *(f"{name:15}{value}" for name, value in _sights(facts)),
        "",
        *(
            f"{finding.severity.value:9}{finding.id:24} {finding.what}"
            for finding in findings
            if finding.id.partition(".")[0] in _SUBJECTS
        ),
        "",
        "The row for docs/reference/nics-seen.md:",
        row(facts, findings, today),
    ]
    return "\n".join(lines)


def row(facts: Facts, findings: Sequence[Finding], today: datetime.date) -> str:
    """One line of the table of NICs that were seen."""
    state = facts.card.state if facts.card is not None else None
    rings = state.rings if state is not None else None
    trial = next((f.severity.value for f in findings if f.id == "trial"), "not tried")
    cells = (
        str(today),
        (state and state.driver) or "none",
        (facts.card and facts.card.device) or "unknown",
        (state and state.firmware) or "unknown",
        facts.machine.product or "unknown",
        facts.kernel.probe.kernel,
        str(state.rx_queues) if state is not None else "0",
        str(rings.rx) if rings is not None and rings.rx else "unknown",
        _split(state),
        trial,
    )
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _sights(facts: Facts) -> Iterator[tuple[str, str]]:
    probe = facts.kernel.probe
    yield "kernel", f"{probe.kernel}, zcrx {probe.zcrx.value}, liburing {probe.liburing}"
    machine = facts.machine
    yield "machine", f"{machine.product or 'unknown'}, {len(machine.cpus)} CPUs, {_nodes(facts)}"
    if facts.card is None:
        return
    state = facts.card.state
    yield (
        "NIC",
        f"driver {state.driver or 'none'}, device {facts.card.device or 'unknown'}, "
        f"firmware {state.firmware or 'unknown'}",
    )
    yield "link", f"{_on(state.up, 'up', 'down')}, MTU {state.mtu}"
    if (channels := state.channels) is not None:
        yield (
            "channels",
            f"combined {channels.combined} of {channels.combined_max}, "
            f"rx {channels.rx} of {channels.rx_max}",
        )
    if (rings := state.rings) is not None:
        yield "rings", f"rx {rings.rx} of {rings.rx_max}, rx-buf-len {rings.rx_buf_len}"
        yield "header split", f"{_split(state)}, hds-thresh {rings.hds_thresh}"
    for kind, settings in (("features", state.features), ("private flags", state.private_flags)):
        yield kind, ", ".join(f"{name} {_on(on)}" for name, on in settings.items()) or "none"
    rss = state.rss[0] if state.rss else None
    yield "RSS", f"contexts: {len(state.rss)}, entries: {len(rss.table) if rss else 0}"
    yield "rules", "no ntuple" if state.rules is None else str(len(state.rules))
    holders = [f"{q.index} by {q.holder}" for q in state.queues if q.holder]
    yield "queues", f"{state.rx_queues}, held: {', '.join(holders) or 'none'}"


def _nodes(facts: Facts) -> str:
    count = len(facts.machine.nodes)
    return f"{count} NUMA node{'' if count == 1 else 's'}"


def _split(state: State | None) -> str:
    if state is None or state.rings is None or state.rings.tcp_data_split is None:
        return "not there"
    return _on(state.rings.tcp_data_split)


def _on(value: bool, yes: str = "on", no: str = "off") -> str:
    return yes if value else no

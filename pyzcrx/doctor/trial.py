"""A registration, tried on the real queue: the only way to be sure.

It restarts the queue (one driver: every queue of the NIC), and packets that arrive while
it is bound are lost to plain sockets. So only when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pyzcrx._queue.area import Area
from pyzcrx.doctor.explain import explain
from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.errors import InvalidRequest, KernelError, NotSupported
from pyzcrx.nic.read import Reader
from pyzcrx.ring import Ring

_BACK_S = 30.0


def check(facts: Facts, findings: Sequence[Finding]) -> Finding:
    """Register what *facts* were read for, give the queue back, say how it went.

    findings: those over *facts*, to explain a failure by.
    """
    where = "NODEV"
    if facts.card is not None:
        if facts.queue is None:
            return Finding(
                "trial",
                Severity.UNKNOWN,
                "not tried: no queue can be seen",
                "an interface that is down has none",
                f"ip link set {facts.card.state.interface} up",
            )
        fixed = next((finding for finding in findings if finding.id == "queue.fixed"), None)
        if fixed is not None:
            # The kernel warns of a restart that a driver refuses.
            return Finding("trial", Severity.UNKNOWN, f"not tried: {fixed.what}", hint=fixed.hint)
        where = f"{facts.card.state.interface}, queue {facts.queue}"
    try:
        _register(facts, facts.wanted.rx_buf_len)
    except KernelError as error:
        if isinstance(error, InvalidRequest | NotSupported) and facts.wanted.rx_buf_len:
            try:
                _register(facts, 0)
            except KernelError as plain:
                error = plain
                facts = replace(facts, wanted=replace(facts.wanted, rx_buf_len=0))
        return explain(error, facts, findings)
    if not _given_back(facts):
        return Finding(
            "trial",
            Severity.WARNING,
            f"a registration works ({where}), but the queue was not given back in {_BACK_S:.0f} s",
            "buffers of it are still out in sockets",
            "end the connections that came in by it (ss -t)",
        )
    return Finding("trial", Severity.OK, f"a registration works ({where})")


def _register(facts: Facts, rx_buf_len: int) -> None:
    interface = facts.card.state.ifindex if facts.card is not None else None
    with Ring() as ring, Area.anonymous(facts.wanted.area_bytes) as area:
        ring.register_ifq(area, interface=interface, rx_queue=facts.queue, rx_buf_len=rx_buf_len)


def _given_back(facts: Facts) -> bool:
    """Wait until nothing of ours is on the queue."""
    if facts.card is None or facts.queue is None:
        return True
    with Reader() as kernel:
        return kernel._netdev is None or not kernel._netdev.wait_unbound(
            facts.card.state.ifindex, (facts.queue,), _BACK_S
        )

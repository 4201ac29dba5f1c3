"""Where a flow is processed and where it is received, on the card's own interrupts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx import doctor, nic, placement
from pyzcrx.nic import irq
from tests.guest.card import Sim, register
from tests.guest.echo import Echo, exchange
from tests.guest.test_receive import connected, sending
from tests.sim.test_zero_copy import received

MIB = 1 << 20
CPUS = sorted(os.sched_getaffinity(0))


def napi_of(sim: Sim) -> nic.Napi:
    napi = nic.read(sim.interface).napi_of(sim.queue)
    assert napi is not None
    return napi


@pytest.fixture
def number(sim: Sim) -> Iterator[int]:
    """The queue's interrupt; its affinity and the NAPI's settings are put back."""
    before = nic.read(sim.interface)
    found, napi = before.irq_of(sim.queue), before.napi_of(sim.queue)
    assert found is not None
    assert napi is not None
    yield found.number
    irq.set_affinity(found.number, found.cpus)
    set_napi(
        sim,
        threaded=napi.threaded,
        defer_hard_irqs=napi.defer_hard_irqs,
        gro_flush_timeout_ns=napi.gro_flush_timeout_ns,
    )


def set_napi(sim: Sim, **settings: int) -> None:
    with nic.Reader() as kernel:
        assert kernel._netdev is not None
        kernel._netdev.set_napi(napi_of(sim).id, **settings)


def echoed(*options: str) -> dict[str, Any]:
    """A stream through zcrx-echo; its figures."""
    data = os.urandom(MIB)
    with Echo(*options) as echo:
        with echo.connect() as sock:
            assert exchange(sock, data) == data
        stats = echo.stop()
    placed: dict[str, Any] = stats["placement"]
    return placed


@pytest.mark.parametrize("cpu", CPUS[:2])
def test_a_flow_is_processed_where_its_interrupt_goes(sim: Sim, number: int, cpu: int) -> None:
    irq.set_affinity(number, str(cpu))
    data = os.urandom(MIB)
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(4 * MIB) as area,
    ):
        ifq = register(ring, area)
        with connected() as (client, sock), sending(client, data):
            ifq.receive(sock)
            assert received(ring) == data
            found = placement.incoming(sock)
        assert found.napi_id == napi_of(sim).id
    assert found.cpu == cpu


@pytest.mark.parametrize("cpu", CPUS[:2])
@pytest.mark.parametrize("mode", ["same", "other"])
def test_echo_beside_its_interrupt(number: int, cpu: int, mode: str) -> None:
    irq.set_affinity(number, str(cpu))
    placed = echoed("--cpu", mode)
    wanted = [cpu] if mode == "same" else [other for other in CPUS if other != cpu]
    assert placed["receiver_cpus"] == wanted
    assert placed["receiver_cpu"] in wanted
    assert placed["softirq_cpus"] == {str(cpu): 1}
    assert len(placed["napi_ids"]) == 1


def test_echo_polls_busily(sim: Sim, number: int) -> None:
    irq.set_affinity(number, str(CPUS[0]))
    # Interrupts put off for long: who waits must fetch the packets itself.
    set_napi(sim, defer_hard_irqs=100, gro_flush_timeout_ns=200_000)
    placed = echoed("--busy-poll", "200", "--cpu", str(CPUS[-1]))
    assert placed["busy_poll_us"] == 200
    assert placed["receiver_cpus"] == [CPUS[-1]]


def test_busy_polling_takes_packets_to_the_receivers_cpu(sim: Sim, number: int) -> None:
    irq.set_affinity(number, str(CPUS[0]))
    data = os.urandom(4 * MIB)
    with (
        placement.pinned({CPUS[-1]}),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(16 * MIB) as area,
    ):
        ifq = register(ring, area)
        set_napi(sim, defer_hard_irqs=1000, gro_flush_timeout_ns=20_000_000)
        ring.register_napi(10_000, prefer=True, napi_ids=[napi_of(sim).id])
        with connected() as (client, sock), sending(client, data):
            ifq.receive(sock)
            assert received(ring) == data
            found = placement.incoming(sock)
        info = Path(f"/proc/self/fdinfo/{ring.ring_fd}").read_text()
    assert "napi tracking:\tstatic" in info
    assert found.cpu == CPUS[-1]


def test_a_napi_thread_is_where_it_is_pinned(sim: Sim, number: int) -> None:
    irq.set_affinity(number, str(CPUS[0]))
    data = os.urandom(MIB)
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 * MIB) as area:
        ifq = register(ring, area)
        set_napi(sim, threaded=1)
        thread = napi_of(sim).pid
        assert thread is not None
        placement.pin({CPUS[-1]}, thread)
        text = next(
            f.what
            for f in doctor.examine(doctor.read(sim.interface, doctor.Wanted(sim.queue)))
            if f.id == "placement.napi"
        )
        assert f"a thread (pid {thread})" in text
        with connected() as (client, sock), sending(client, data):
            ifq.receive(sock)
            assert received(ring) == data
            found = placement.incoming(sock)
    assert found.cpu == CPUS[-1]

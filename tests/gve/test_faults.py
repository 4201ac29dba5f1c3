"""pyzcrx.nic sets a real driver's NIC up, puts it back, and what is received is not copied."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.nic import steps
from tests.guest.card import PATIENCE_S, Gve
from tests.guest.echo import Echo, exchange
from tests.gve.stream import MIB, bound, flow, once, transfer
from tests.patience import until
from tests.sim.fresh import zcrx_nic

JOURNALS = Path("/run/pyzcrx/nic")
EVERYTHING: dict[str, Any] = {
    "rx_ring": 512,
    "irq_cpus": "0",
    "napi": {"gro-flush-timeout": 9000},
}
"""A set-up that has every kind of step that the driver can do."""


def journals() -> list[Path]:
    return sorted(JOURNALS.glob("*/*.*"))


def settled(gve: Gve) -> dict[str, Any]:
    """How the NIC is set. The driver makes its NAPI instances anew whenever its rings change, so
    their numbers say nothing.
    """
    gve.carrier()
    state = asdict(nic.read(gve.interface))
    for each in state["queues"]:
        del each["napi_id"]
    for each in state["napis"]:
        del each["id"]
    for each in state["irqs"]:
        del each["effective_cpus"]
    state["napis"] = sorted(state["napis"], key=lambda each: str(each["irq"]))
    return state


@pytest.fixture
def _put_back(gve: Gve) -> Iterator[None]:
    """The NIC must be afterwards as it was before."""
    before = settled(gve)
    yield
    now = settled(gve)
    changed = {name: (was, now[name]) for name, was in before.items() if now[name] != was}
    assert not changed, changed
    assert journals() == []


@pytest.mark.usefixtures("_put_back")
def test_echo_with_no_other_command(gve: Gve) -> None:
    data = os.urandom(4 * MIB)
    with Echo(card=("-i", gve.interface), server=gve.server) as echo:
        (queue,) = (each.index for each in nic.read(gve.interface).queues if each.io_uring)
        before = [gve.of_queue(kind, queue) for kind in ("split_bytes", "whole_bytes")]
        with echo.connect() as sock:
            assert exchange(sock, data) == data
        after = [gve.of_queue(kind, queue) for kind in ("split_bytes", "whole_bytes")]
    assert after[0] - before[0] >= len(data)
    assert after[1] == before[1]
    assert echo.stats["bytes"] == len(data)
    assert echo.stats["bytes_copied"] == 0


@pytest.mark.usefixtures("_put_back")
@pytest.mark.parametrize("count", [1, 3])
def test_faults_of_the_link_cost_time_and_no_byte(gve: Gve, count: int) -> None:
    """Frames dropped, corrupted and late."""
    data = os.urandom(count * MIB)
    gve.ask(faults={"drop": 5_000, "corrupt": 5_000, "late": 20_000, "late_ms": 5})
    with bound(gve) as (_, ring, ifq):
        assert transfer(gve, ring, ifq, data, lambda: None) == data
    books = gve.ask()["books"]
    assert books["late"]
    assert books.get("bad_checksum", 0) == books.get("corrupted", 0)


@pytest.mark.usefixtures("_put_back")
def test_a_nic_without_buffers_drops_and_the_stream_goes_on(gve: Gve) -> None:
    data = os.urandom(4 * MIB)
    with bound(gve) as (setup, ring, ifq):

        def starve() -> None:
            before = gve.of_queue("no_buffer", setup.queue)
            gve.ask(faults={"starve": 1})
            until(lambda: gve.of_queue("no_buffer", setup.queue) > before, "no frame is dropped")
            gve.ask(faults={"starve": 0})

        assert transfer(gve, ring, ifq, data, once(starve)) == data


@pytest.mark.parametrize(
    ("when", "kind"), [("before", pyzcrx.errors.SetupFailed), ("after", KeyboardInterrupt)]
)
@pytest.mark.usefixtures("_put_back")
@pytest.mark.filterwarnings("error")
def test_a_fault_at_every_step_leaves_the_nic_as_it_was(
    gve: Gve, monkeypatch: pytest.MonkeyPatch, when: str, kind: type[BaseException]
) -> None:
    before = settled(gve)
    wanted = nic.Wanted((nic.Flow.parse(flow(gve)),), **EVERYTHING)
    count = len(nic.plan(nic.read(gve.interface), wanted).steps)
    assert count >= 5
    do = nic.Setup._do
    for fault in range(count):
        left = [fault]

        def broken(self: nic.Setup, step: steps.Step, left: list[int] = left) -> steps.Step:
            left[0] -= 1
            if left[0] >= 0:
                return do(self, step)
            if when == "after":
                do(self, step)
            raise kind("here")

        monkeypatch.setattr(nic.Setup, "_do", broken)
        with pytest.raises(kind):
            nic.prepare(gve.interface, flow(gve), **EVERYTHING)
        assert settled(gve) == before, f"step {fault}"
        assert journals() == []


@pytest.mark.usefixtures("_put_back")
def test_command_line(gve: Gve) -> None:
    plan = json.loads(zcrx_nic("setup", gve.interface, "-f", flow(gve), "--json").stdout)
    (queue,) = plan["queues"]
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
        ifq = ring.register_ifq(area, interface=gve.interface, rx_queue=queue, timeout=PATIENCE_S)
        data = os.urandom(MIB)
        assert transfer(gve, ring, ifq, data, lambda: None) == data
    assert "zcrx-nic setup had changed" in zcrx_nic("restore", gve.interface).stdout

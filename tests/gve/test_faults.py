"""What goes wrong below a queue that pyzcrx.nic has set up costs time and no byte."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.guest.card import Gve
from tests.gve.stream import MIB, bound, once, transfer
from tests.nic.card import Gvnic, journals
from tests.patience import until
from tests.sim.fresh import untouched


@pytest.fixture
def _put_back(gve: Gve) -> Iterator[None]:
    """The NIC must be afterwards as it was before."""
    del gve
    with untouched(Gvnic()):
        yield
    assert journals() == []


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

"""Which queue of a prepared NIC is registered; bad combinations are refused before the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import pyzcrx
from pyzcrx._ifq.registering import queue_of
from pyzcrx._kernel.memory import PAGE
from pyzcrx._queue import bound
from pyzcrx.testing import ModelKernel


@dataclass(frozen=True)
class Prepared:
    """As nic.prepare() gives it."""

    ifindex: int
    queues: tuple[int, ...]


@dataclass(eq=False)
class Bound:
    ifindex: int
    rx_queue: int


NIC = Prepared(7, (4, 5))


@pytest.mark.parametrize(
    ("nic", "arguments", "cause"),
    [
        ("eth0", {}, "must be what nic.prepare"),
        (7, {}, "must be what nic.prepare"),
        (NIC, {"interface": "eth0"}, "not both"),
        (NIC, {"interface": "eth0", "rx_queue": 4}, "not both"),
        (NIC, {"rx_queue": 3}, "rx_queue 3 was not prepared; these were: 4, 5"),
    ],
)
def test_bad_combinations(nic: Any, arguments: dict[str, Any], cause: str) -> None:
    with ModelKernel(), pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        with pytest.raises(pyzcrx.errors.BadArgument, match=cause):
            ring.register_ifq(area, nic, **arguments)
        assert ring.ifqs == []
        ring.register_ifq(area)  # the area was not taken


def test_a_prepared_nic_is_asked_for_by_index() -> None:
    with ModelKernel(), pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        with pytest.raises(pyzcrx.errors.NoSuchInterface, match="4294967"):
            ring.register_ifq(area, Prepared(4294967, (4,)))
        assert area.token is None


def test_the_first_queue_that_is_free() -> None:
    assert queue_of(NIC, None, None) == (7, 4)
    assert queue_of(NIC, None, 5) == (7, 5)
    first, second = Bound(7, 4), Bound(7, 5)
    bound.add(first)
    assert queue_of(NIC, None, None) == (7, 5)
    bound.add(second)  # the kernel says that it is bound
    assert queue_of(NIC, None, None) == (7, 4)
    bound.discard(first)
    bound.discard(second)

"""A card's state as JSON, and back, equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyzcrx.errors import BadArgument
from pyzcrx.nic.state import Irq, Lease, Napi, Queue, Rss, Rule, State, load
from tests.unit.nic.cards import card

OPTIONAL = st.none() | st.integers(0, 2**32)
QUEUES = st.builds(
    Queue,
    st.integers(0, 65),
    OPTIONAL,
    st.booleans(),
    OPTIONAL,
    OPTIONAL,
    st.booleans(),
    st.none() | st.builds(Lease, st.integers(1), st.integers(0), OPTIONAL),
)
RULES = st.builds(Rule, st.integers(0), OPTIONAL, OPTIONAL, st.none() | st.text(), st.text())


@settings(deadline=None)
@given(
    st.tuples(QUEUES, QUEUES),
    st.none() | st.tuples(RULES),
    st.builds(Napi),
    st.builds(Irq),
    st.booleans(),
)
def test_round_trip(
    queues: tuple[Queue, ...], rules: tuple[Rule, ...] | None, napi: Napi, irq: Irq, bare: bool
) -> None:
    state = card(queues=queues, rules=rules, napis=(napi,), irqs=(irq,))
    if bare:
        state = card(channels=None, rings=None, rss=(), driver=None, xdp_features=None)
    assert State.from_json(state.to_json()) == state


def change(**values: Any) -> str:
    return json.dumps(json.loads(card().to_json()) | values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        change(ifindex="2"),
        change(queues={}),
        change(queues=[{}]),
        change(features=[]),
        change(more=1),
        change(rings=3),
        change(up=1),
    ],
)
def test_what_is_no_state(text: str) -> None:
    with pytest.raises(BadArgument, match="no NIC's state"):
        State.from_json(text)


def test_load_is_strict() -> None:
    assert load(Lease, {"ifindex": 1, "queue": 2, "netns_id": None}) == Lease(1, 2, None)
    with pytest.raises(TypeError):
        load(Lease, {"ifindex": 1, "queue": 2})


def test_default_table() -> None:
    rss = Rss(0, (0, 1, 2, 0, 1, 2, 0, 1), "", 1, 0, {})
    assert rss.is_default(3)
    assert not rss.is_default(4)


def test_who_serves_a_queue() -> None:
    state = card()
    napi, irq = state.napi_of(1), state.irq_of(1)
    assert napi is not None
    assert irq is not None
    assert irq.number == napi.irq
    assert state.napi_of(99) is None
    assert state.irq_of(99) is None


def test_holder_of_a_queue() -> None:
    free = Queue(0, 1, False, None, None, False, None)
    assert free.holder is None
    assert Queue(0, 1, True, None, None, False, None).holder == "io_uring zcrx"
    assert "AF_XDP" in str(Queue(0, 1, False, None, None, True, None).holder)
    assert "dmabuf 7" in str(Queue(0, 1, False, None, 7, False, None).holder)
    assert "interface 9" in str(Queue(0, 1, False, None, None, False, Lease(9, 1, None)).holder)

"""Reading a card's state on this machine, without privilege, on interfaces that are no cards."""

from __future__ import annotations

import asyncio

import pytest

import pyzcrx
from pyzcrx import nic


def test_loopback() -> None:
    state = nic.read("lo")
    assert (state.interface, state.ifindex, state.up) == ("lo", 1, True)
    assert "127.0.0.1" in state.addresses
    assert state.channels is None
    assert state.rings is None
    assert state.rules is None
    assert state.driver is None
    assert state.rss == ()
    assert nic.State.from_json(state.to_json()) == state
    assert nic.read(1) == state


def test_inside_an_event_loop() -> None:
    async def read() -> nic.State:
        return nic.read("lo")

    assert asyncio.run(read()).ifindex == 1


@pytest.mark.parametrize("interface", ["nonesuch0", "", "a" * 99, "nul\0", 1 << 30])
def test_no_such_interface(interface: str | int) -> None:
    with pytest.raises(pyzcrx.errors.NoSuchInterface, match="no such interface") as caught:
        nic.read(interface)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [0, -1, 1 << 31, True])
def test_no_interface_has_that_index(index: int) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="interface index"):
        nic.read(index)

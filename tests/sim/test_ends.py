"""The card's own ends: it goes away, its link goes down, its namespace is removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import pyzcrx
from tests.guest.card import PATIENCE_S, Sim, register, run
from tests.guest.echo import Echo, exchange
from tests.guest.test_receive import connected
from tests.leaks import nothing_leaks
from tests.namespaces import namespace
from tests.patience import until

MIB = 1 << 20
DRIVER = Path("/sys/bus/platform/drivers/zcrxsim")


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


@contextmanager
def second_pair() -> Iterator[tuple[str, str]]:
    """A pair of its own, to be taken away: (id, the interface to receive on)."""
    before = set(os.listdir("/sys/class/net"))
    (DRIVER / "new_pair").write_text("4\n")
    until(lambda: len(set(os.listdir("/sys/class/net")) - before) >= 2, "no second pair")
    new = sorted(set(os.listdir("/sys/class/net")) - before)
    device = Path(f"/sys/class/net/{new[0]}/device").resolve().name
    pair = device.split(".")[-1]
    run("ethtool", "-G", new[0], "tcp-data-split", "on")
    for name in new:
        run("ip", "link", "set", name, "up")
    try:
        yield pair, new[0]
    finally:
        if Path(f"/sys/class/net/{new[0]}").exists():
            (DRIVER / "del_pair").write_text(f"{pair}\n")


def test_a_card_that_goes_away_while_bound() -> None:
    with second_pair() as (pair, interface):
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
            ifq = ring.register_ifq(area, interface=interface, rx_queue=1)
            (DRIVER / "del_pair").write_text(f"{pair}\n")
            until(lambda: interface not in os.listdir("/sys/class/net"), "the card stays")
            assert len(ring.wait(0)) == 0
            ifq.audit()
            with (
                pyzcrx.Area.anonymous(8 * MIB) as more,
                pytest.raises(pyzcrx.KernelError),
            ):
                ifq.add_area(more)
        with (
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(8 * MIB) as area,
            pytest.raises(pyzcrx.errors.NoSuchInterface),
        ):
            ring.register_ifq(area, interface=interface, rx_queue=1)


def test_a_namespace_that_is_removed_while_its_card_is_bound() -> None:
    with second_pair() as (_, interface):
        with ExitStack() as stack:
            area = stack.enter_context(pyzcrx.Area.anonymous(8 * MIB))
            ring = stack.enter_context(pyzcrx.Ring())
            ifq = ring.register_ifq(area, interface=interface, rx_queue=1)
            with namespace("gone") as gone:
                run("ip", "link", "set", interface, "netns", gone)
            # A card goes back to the first namespace.
            until(lambda: interface in os.listdir("/sys/class/net"), "the card is lost")
            assert len(ring.wait(0)) == 0
            ifq.audit()
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
            ring.register_ifq(area, interface=interface, rx_queue=1, timeout=PATIENCE_S)


def test_the_link_goes_down_and_the_process_with_it(sim: Sim) -> None:
    with connected() as (client, sock):
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
            ifq = register(ring, area)
            ifq.receive(sock)
            client.sendall(bytes(50_000))
            event = next(ring.events())
            assert isinstance(event, pyzcrx.Data)
            run("ip", "link", "set", sim.interface, "down")
        run("ip", "link", "set", sim.interface, "up")
        assert bytes(event.buffer) == bytes(len(event.buffer))
        event.buffer.release()
    with Echo() as echo, echo.connect() as sock:
        assert exchange(sock, b"again") == b"again"


def test_packed_buffers_back_several_references(sim: Sim) -> None:
    """With packing one buffer of the area backs several completions: each is accounted for."""
    run("ethtool", "--set-priv-flags", sim.interface, "rx-pack", "on")
    try:
        with (
            connected() as (client, sock),
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(8 * MIB) as area,
        ):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ifq = register(ring, area)
            ifq.receive(sock)
            got, pages, references = bytearray(), set(), 0
            for i in range(200):
                client.sendall(bytes([i]) * 300)
                while len(got) < 300 * (i + 1):
                    event = next(ring.events())
                    assert isinstance(event, pyzcrx.Data)
                    got += event.buffer
                    pages.add(event.buffer.off >> 12)
                    references += 1
                    event.buffer.release()
                ifq.audit()
            assert got == b"".join(bytes([i]) * 300 for i in range(200))
            assert len(pages) < references
    finally:
        run("ethtool", "--set-priv-flags", sim.interface, "rx-pack", "off")

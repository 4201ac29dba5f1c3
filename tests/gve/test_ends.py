"""The driver resets, the link flaps, the module and the device go: streams are right or fail."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx import nic
from tests.guest.card import Gve, connect, run
from tests.gve.stream import AREA_BYTES, MIB, bound, flow, once, registered, transfer
from tests.long import rounds
from tests.patience import until
from tests.sim.removal import abort, close_by_reset

CYCLES = rounds(20, 100)
DEVICES = Path("/sys/bus/pci/devices")


def stream_with_resets(gve: Gve) -> None:
    """The device wants one at every quarter."""
    data = os.urandom(3 * MIB)
    with bound(gve) as (setup, ring, ifq):

        def reset() -> None:
            before = gve.ask()["books"].get("resets", 0)
            gve.ask(do="reset")
            until(lambda: gve.ask()["books"].get("resets", 0) > before, "no reset")
            gve.carrier()

        assert transfer(gve, ring, ifq, data, reset) == data
        assert any("is gone" in each for each in setup.check())


def test_a_reset_that_the_device_wants(gve: Gve) -> None:
    """The driver makes all queues again, and a bound one stays bound. Flow rules do not outlive it
    (the driver's gve_reset() sets none): the rest of the stream may go elsewhere, and is copied.
    """
    before = gve.ask()["books"].get("resets", 0)
    with pytest.warns(nic.NicWarning, match="is gone"):
        stream_with_resets(gve)
    assert gve.ask()["books"]["resets"] >= before + 3


def test_a_link_that_flaps(gve: Gve) -> None:
    data = os.urandom(3 * MIB)
    with bound(gve) as (_, ring, ifq):

        def flap() -> None:
            gve.ask(do="link down")
            until(lambda: not nic.read(gve.interface).carrier, "the carrier stays")
            gve.ask(do="link up")
            gve.carrier()

        assert transfer(gve, ring, ifq, data, flap) == data


def unload() -> None:
    run("rmmod", "gve")


def unplug() -> None:
    """Ours alone; its peer stays."""
    device = Path("/sys/class/net/zcrx0/device").resolve().name
    (DEVICES / device / "remove").write_text("1\n")


@pytest.mark.parametrize("take_away", [unload, unplug])
def test_a_bound_nic_is_taken_away(gve: Gve, take_away: Callable[[], None]) -> None:
    setup = nic.prepare(gve.interface, flow(gve))
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(AREA_BYTES) as area:
        ifq = registered(setup, ring, area)
        error = transfer(gve, ring, ifq, os.urandom(2 * MIB), once(take_away))
        assert isinstance(error, pyzcrx.errors.InterfaceGone)
        assert error is ifq.gone
    with pytest.warns(nic.NicWarning, match="zcrx0 is gone"):
        setup.close()
    gve.bare()
    with bound(gve) as (_, ring, ifq):
        assert transfer(gve, ring, ifq, b"again", lambda: None) == b"again"


def test_the_driver_comes_and_goes_with_traffic(gve: Gve) -> None:
    """Each time a stream of a plain socket is under way when it goes."""
    for _ in range(CYCLES):
        with socket.create_server((gve.server, 0)) as listener:
            client = connect(listener.getsockname()[1])
            sock, _ = listener.accept()
        close_by_reset(sock)
        client.sendall(bytes(64 << 10))
        assert sock.recv(1000)
        unload()
        sock.close()
        abort(client)
        gve.bare()
    with bound(gve) as (_, ring, ifq):
        assert transfer(gve, ring, ifq, b"still", lambda: None) == b"still"

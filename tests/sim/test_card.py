"""The simulated card as a driver: what it must refuse, and what it must survive."""

from __future__ import annotations

import errno
import subprocess

import pytest

import pyzcrx
from pyzcrx import nic
from tests.guest.card import Sim, register, run
from tests.guest.echo import Echo, exchange
from tests.sim.test_zero_copy import books, grown

MIB = 1 << 20


def refused(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode, done.stdout
    return done.stderr


@pytest.mark.parametrize("context", [65, 68, 4_000_000_000])
def test_a_context_that_there_is_none(sim: Sim, context: int) -> None:
    refused("ethtool", "-x", sim.interface, "context", str(context))
    refused("ethtool", "-n", sim.interface, "rx-flow-hash", "tcp4", "context", str(context))


def test_a_rule_that_leads_beyond_the_queues(sim: Sim) -> None:
    made = run("ethtool", "-X", sim.interface, "context", "new", "start", "0", "equal", "2")
    context = made.split()[-1]
    rule = ("flow-type", "tcp4", "dst-port", "9", "context", context)
    try:
        queues = nic.read(sim.interface).rx_queues
        refused("ethtool", "-N", sim.interface, *rule, "action", str(queues - 1))
        run("ethtool", "-N", sim.interface, *rule, "action", str(queues - 2), "loc", "900")
        run("ethtool", "-N", sim.interface, "delete", "900")
    finally:
        run("ethtool", "-X", sim.interface, "context", context, "delete")


def test_a_rule_for_the_same_frames_is_replaced(sim: Sim) -> None:
    rule = ("ethtool", "-N", sim.interface, "flow-type", "tcp4", "dst-port", "9", "action")
    first, second = (run(*rule, queue).split()[-1] for queue in ("0", "2"))
    try:
        assert first == second
        [found] = nic.read(sim.interface).rules or ()
        assert (str(found.location), found.queue) == (first, 2)
    finally:
        run("ethtool", "-N", sim.interface, "delete", first)


@pytest.mark.parametrize("times", [1, 3])
def test_starts_that_fail_leave_the_queue_as_it_was(sim: Sim, times: int) -> None:
    sim.fault(fail_start=times)
    for _ in range(times):
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(MIB) as area:
            with pytest.raises(pyzcrx.KernelError) as caught:
                register(ring, area)
            assert caught.value.errno == errno.EIO
    with Echo() as echo, echo.connect() as sock:
        assert exchange(sock, bytes(MIB)) == bytes(MIB)


def test_checksums_are_verified_where_nobody_else_could(sim: Sim) -> None:
    run("ethtool", "-K", sim.interface, "rx", "off")
    try:
        with Echo() as echo, echo.connect() as sock:
            before = books(sim)
            assert exchange(sock, bytes(MIB)) == bytes(MIB)
            assert grown(sim, before)["zc_bytes"] >= MIB
    finally:
        run("ethtool", "-K", sim.interface, "rx", "on")

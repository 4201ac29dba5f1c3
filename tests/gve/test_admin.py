"""The device refuses a command of its driver, or answers none: typed errors, and it works again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx import nic
from tests.guest.card import Gve
from tests.gve.stream import AREA_BYTES, MIB, bound, flow, once, registered, transfer
from tests.nic.card import Gvnic, journals
from tests.patience import until
from tests.sim.fresh import untouched


def works(gve: Gve) -> None:
    with bound(gve) as (_, ring, ifq):
        assert transfer(gve, ring, ifq, b"again", lambda: None) == b"again"


def resets(gve: Gve) -> int:
    return int(gve.ask()["books"].get("resets", 0))


def reset(gve: Gve) -> None:
    """The device wants one, and the driver's admin queue begins anew."""
    before = resets(gve)
    gve.ask(do="reset")
    until(lambda: resets(gve) > before, "no reset")
    gve.carrier()


def test_a_refused_queue_fails_the_set_up_alone(gve: Gve) -> None:
    """The driver's ethtool operation fails with EAGAIN, for which it resets the device."""
    before = resets(gve)
    gve.ask(faults={"refuse": 1})
    with untouched(Gvnic()), pytest.raises(pyzcrx.KernelError, match="refused a command") as caught:
        nic.prepare(gve.interface, flow(gve))
    assert caught.value.errno == errno.EAGAIN
    assert gve.ask()["books"]["refused_commands"]
    assert resets(gve) > before
    assert journals() == []
    works(gve)


def test_a_hung_admin_queue_is_not_taken_for_a_nic_without_rules(gve: Gve) -> None:
    """After the first command that is not answered the driver issues none until a reset."""
    gve.ask(faults={"hang": 1})
    with pytest.raises(pyzcrx.errors.NicUnsupported, match="cannot be read"):
        nic.prepare(gve.interface, flow(gve))
    assert gve.ask()["books"]["hung_commands"]
    assert journals() == []
    reset(gve)
    works(gve)


@contextmanager
def expecting(bug: str) -> Iterator[None]:
    """A bug of docs/reference/kernel-bugs.md, whose report fails no run meanwhile (vm/splat.py)."""
    log = Path("/dev/kmsg")
    log.write_text(f"pyzcrx: expecting the kernel bug {bug}\n")
    try:
        yield
    finally:
        log.write_text("pyzcrx: expecting the kernel bug none\n")


def test_queue_0_is_refused_by_its_driver(gve: Gve) -> None:
    """Where nothing of ours refuses it before: the errno is explained, and the kernel warns."""
    with (
        nic.prepare(gve.interface, flow(gve)) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(AREA_BYTES) as area,
    ):
        with (
            expecting("refused-restart"),
            pytest.raises(pyzcrx.errors.OutOfRange, match="gve: queue 0"),
        ):
            ring.register_ifq(area, interface=setup.ifindex, rx_queue=0)
        ifq = registered(setup, ring, area)
        assert transfer(gve, ring, ifq, b"after", lambda: None) == b"after"


def test_a_queue_that_is_refused_at_its_registration_can_be_had_again(gve: Gve) -> None:
    data = os.urandom(MIB)
    with (
        nic.prepare(gve.interface, flow(gve)) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(AREA_BYTES) as area,
    ):
        gve.ask(faults={"refuse": 1})
        with pytest.raises(pyzcrx.KernelError, match="refused its driver a command") as caught:
            ring.register_ifq(area, setup)
        assert caught.value.errno == errno.EAGAIN
        gve.carrier()
        ifq = registered(setup, ring, area)
        assert transfer(gve, ring, ifq, data, lambda: None) == data


def registration_that_hangs(gve: Gve) -> None:
    data = os.urandom(MIB)
    with (
        nic.prepare(gve.interface, flow(gve)) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(AREA_BYTES) as area,
    ):
        gve.ask(faults={"hang": 1})
        with pytest.raises(pyzcrx.KernelError, match="does not answer its driver") as caught:
            ring.register_ifq(area, setup)
        assert caught.value.errno == errno.ENOTRECOVERABLE
        reset(gve)
        ifq = registered(setup, ring, area)
        assert transfer(gve, ring, ifq, data, lambda: None) == data


def test_a_registration_that_hangs_fails_and_works_after_a_reset(gve: Gve) -> None:
    with pytest.warns(nic.NicWarning, match="is gone"):  # the rule, by the reset
        registration_that_hangs(gve)
    works(gve)


def stream_while_it_hangs(gve: Gve) -> None:
    data = os.urandom(2 * MIB)
    with bound(gve) as (setup, ring, ifq):

        def hang() -> None:
            gve.ask(faults={"hang": 1})
            with pytest.raises(pyzcrx.KernelError) as caught:
                setup.check()
            assert caught.value.errno == errno.ENOTRECOVERABLE
            assert "does not answer" in str(caught.value)

        assert transfer(gve, ring, ifq, data, once(hang)) == data
        reset(gve)
        assert any("is gone" in each for each in setup.check())


def test_a_stream_goes_on_while_the_admin_queue_hangs(gve: Gve) -> None:
    with pytest.warns(nic.NicWarning, match="is gone"):  # the rule, by the reset
        stream_while_it_hangs(gve)
    works(gve)

"""The kernel's netdevsim: a card's controls, without what zero-copy receive needs of one."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.nic.ethtool import Ethtool
from pyzcrx.nic.tables import TcpDataSplit
from tests.guest.card import run
from tests.sim import rings
from tests.sim.rings import AUTO, HDS_THRESH, HDS_THRESH_MAX, OFF, ON, RX, TCP_DATA_SPLIT, Rings

BUS = Path("/sys/bus/netdevsim")
LOAD = "/run/pyzcrx/netdevsim/load"
QUEUES = 2


@pytest.fixture(scope="module")
def module() -> Iterator[None]:
    run(LOAD)
    yield
    run("rmmod", "netdevsim")


@pytest.fixture
def card(module: None) -> Iterator[str]:  # noqa: ARG001 - its bus is what is written to
    """A card with two queues; its interface."""
    (BUS / "new_device").write_text(f"1 1 {QUEUES}")
    (interface,) = (BUS / "devices/netdevsim1/net").iterdir()
    run("ip", "link", "set", interface.name, "up")
    yield interface.name
    (BUS / "del_device").write_text("1")


@pytest.fixture
def settings(card: str) -> Iterator[Rings]:
    opened = rings.Rings(card)
    yield opened
    opened.close()


def refusal(card: str, queue: int = 0, rx_buf_len: int = 0) -> OSError:
    """What registering an ifq says. Ring and area must be as good as before it."""
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 20) as area:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the tests look at it closely
            ring.register_ifq(area, interface=card, rx_queue=queue, rx_buf_len=rx_buf_len)
        ring.register_ifq(area)
    assert isinstance(caught.value, pyzcrx.ZcrxError)
    return caught.value


def test_a_card_without_dma_is_refused(card: str) -> None:
    error = refusal(card)
    assert isinstance(error, pyzcrx.errors.NotSupported)
    assert error.errno == errno.EOPNOTSUPP
    assert f"register ifq ({card}, queue 0): EOPNOTSUPP: " in str(error)
    assert "no device that does DMA" in str(error)


@pytest.mark.parametrize(("queue", "rx_buf_len"), [(QUEUES, 0), (0, 1 << 16)])
@pytest.mark.parametrize("split", [AUTO, OFF, ON])
def test_nothing_that_is_asked_of_it_changes_that(
    card: str, settings: Rings, split: int, queue: int, rx_buf_len: int
) -> None:
    settings.set(TCP_DATA_SPLIT, split)
    before = settings.get()
    assert refusal(card, queue, rx_buf_len).errno == errno.EOPNOTSUPP
    assert settings.get() == before


def test_a_card_that_is_gone(card: str) -> None:
    run("ip", "link", "set", card, "name", "gone0")
    assert refusal(card).errno == errno.ENODEV


@pytest.mark.parametrize(
    ("asked", "shown"), [(ON, ON), (OFF, OFF), (AUTO, ON)], ids=["on", "off", "auto"]
)
def test_header_split(settings: Rings, asked: int, shown: int) -> None:
    """Auto reads as what the driver makes of it: the setting cannot be read back."""
    for other in {ON, OFF} - {asked}:
        settings.set(TCP_DATA_SPLIT, other)
        settings.set(TCP_DATA_SPLIT, asked)
        assert settings.get()[TCP_DATA_SPLIT] == shown


@pytest.mark.parametrize("asked", [ON, OFF, AUTO], ids=["on", "off", "auto"])
def test_set_up_and_put_back(card: str, settings: Rings, asked: int) -> None:
    """As it was asked for, too: then asking again changes nothing."""
    for value in (*({ON, OFF} - {asked}), asked):
        settings.set(TCP_DATA_SPLIT, value)
    before = nic.read(card)
    with (
        pytest.warns(nic.NicWarning, match="cannot receive by it"),
        nic.prepare(card, queue=1) as setup,
    ):
        assert settings.get()[TCP_DATA_SPLIT] == ON
    assert nic.read(card) == before
    with Ethtool() as ethtool:
        assert not ethtool.set_rings(setup.ifindex, tcp_data_split=TcpDataSplit(asked))


def test_hds_thresh(settings: Rings) -> None:
    most = settings.get()[HDS_THRESH_MAX]
    for value in (most, 1, 0):
        settings.set(HDS_THRESH, value)
        assert settings.get()[HDS_THRESH] == value


@pytest.mark.parametrize("kind", [HDS_THRESH, RX])
def test_more_than_it_has_is_refused(settings: Rings, kind: int) -> None:
    before = settings.get()
    with pytest.raises(OSError, match="Invalid argument") as caught:
        settings.set(kind, 1 << 20)
    assert caught.value.errno == errno.EINVAL
    assert settings.get() == before


def test_ethtool_tells_the_same(card: str, settings: Rings) -> None:
    settings.set(TCP_DATA_SPLIT, OFF)
    said = subprocess.run(["ethtool", "-g", card], check=True, capture_output=True, text=True)
    assert "TCP data split:\t\toff" in said.stdout

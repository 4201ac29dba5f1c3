"""Every command on a card by an alternative name that is longer than ``ifreq`` takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx import nic
from tests.guest import program
from tests.guest.card import PATIENCE_S, run
from tests.guest.echo import Echo, exchange
from tests.nic.card import Card
from tests.patience import START_S
from tests.sim.fresh import zcrx_nic

MIB = 1 << 20
NAME = "the-card-of-many-letters"


@pytest.fixture(autouse=True, scope="module")
def named(pair: Card) -> Iterator[None]:
    run("ip", "link", "property", "add", "dev", pair.interface, "altname", NAME)
    yield
    run("ip", "link", "property", "del", "dev", pair.interface, "altname", NAME)


def test_zcrx_nic(card: Card) -> None:
    shown = nic.State.from_json(zcrx_nic("show", NAME, "--json").stdout)
    assert card.settled(shown) == card.state()
    made = zcrx_nic("setup", NAME, "--port", "9999").stdout
    assert made.endswith(f"undo: zcrx-nic restore {card.interface}\n")
    assert zcrx_nic("restore", NAME).stdout.startswith(f"{card.interface}: put back")


def test_zcrx_doctor(card: Card) -> None:
    by_names = [
        json.loads(
            program.run("zcrx-doctor", "-i", name, "--json", check=False, timeout=START_S).stdout
        )
        for name in (NAME, card.interface)
    ]
    assert by_names[0] == by_names[1]
    assert by_names[0]["interface"] == card.interface


def test_zcrx_echo(card: Card) -> None:
    data = os.urandom(MIB)
    with Echo(card=("-i", NAME), server=card.server) as echo, echo.connect() as sock:
        assert exchange(sock, data) == data
    assert echo.stats["bytes_copied"] == 0


def test_zcrx_bench(card: Card) -> None:
    options = ("--sender-netns", card.netns, "--json", "--rounds", "1", "--size", "1M")
    done = program.run(
        "zcrx-bench", "-i", NAME, *options, "-r", "columns", timeout=2 * START_S, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["setup"]["interface"] == card.interface
    assert report["setup"]["driver"] == card.driver
    assert [card.bench_says(once["copied"]) for once in report["runs"]["columns"]] == [True]


def test_calls(card: Card) -> None:
    assert pyzcrx.area_advice(NAME) == pyzcrx.area_advice(card.interface)
    with (
        nic.prepare(NAME) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(8 * MIB) as area,
    ):
        ifq = ring.register_ifq(area, interface=NAME, rx_queue=setup.queue, timeout=PATIENCE_S)
        assert (ifq.interface, ifq.ifindex) == (card.interface, setup.ifindex)

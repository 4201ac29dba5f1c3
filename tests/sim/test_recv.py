"""``zcrx-recv --direct``: from the NIC to the disk without a copy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.card import Sim, run
from tests.guest.recv import MIB, Recv, send
from tests.sim.test_zero_copy import books, grown


def set_mtu(sim: Sim, mtu: int) -> None:
    for prefix, device in (("ip",), sim.interface), (("ip", "-n", sim.netns), sim.peer):
        run(*prefix, "link", "set", device, "mtu", str(mtu))


@pytest.fixture
def _jumbo(sim: Sim) -> Iterator[None]:
    set_mtu(sim, 9000)
    yield
    set_mtu(sim, 1500)


@pytest.fixture
def out() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder) / "out"


@pytest.mark.usefixtures("_jumbo")
def test_whole_pages_are_not_copied(sim: Sim, out: Path) -> None:
    data = os.urandom(48 * MIB + 100)
    before = books(sim)
    with Recv(out, "--direct") as recv:
        with recv.connect() as sock:
            assert send(sock, data)
        [stats] = recv.finish()
    say = grown(sim, before)
    assert out.read_bytes() == data
    assert (say["page_bytes"], say["linear_bytes"]) == (0, 0)
    assert stats["copied_bytes"] <= len(data) // 1000
    assert not recv.line("warning")


def test_segments_below_a_page_are_warned_of_once(out: Path) -> None:
    streams = [os.urandom(MIB), os.urandom(MIB)]
    with Recv(out, "--direct", "-j", "2") as recv:
        for data in streams:
            with recv.connect() as sock:
                assert send(sock, data)
        found = recv.finish()
    assert [Path(stats["files"][0]).read_bytes() for stats in found] == streams
    [warning] = [line for line in recv.lines if "warning" in line]
    assert "MTU allows segments of 1448 bytes" in warning
    assert "ip link set DEVICE mtu 4168" in warning

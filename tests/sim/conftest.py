"""Only for the simulated pair; every test finds it, and leaves it, as it was set up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import program
from tests.guest.books import books_balance
from tests.guest.card import CARD, Sim, run
from tests.sim.removal import settle

assert isinstance(CARD, Sim)
CARD.set_up()
program.starter()  # now, or the test that comes first finds that it has opened something

__all__ = ["books_balance"]


@pytest.fixture(autouse=True)
def sim() -> Iterator[Sim]:
    assert isinstance(CARD, Sim)
    yield CARD
    CARD.quiet()
    CARD.queue_free()
    run("ethtool", "-X", CARD.interface, "start", str(CARD.queue), "equal", "1")


@pytest.fixture
def put_back(sim: Sim) -> Iterator[None]:
    """For tests that take the card away: the next one finds it as it was."""
    retries = Path("/proc/sys/net/ipv4/tcp_orphan_retries")
    before = retries.read_text()
    retries.write_text("1\n")  # sockets without a process still want to send
    yield
    try:
        settle()
    finally:
        retries.write_text(before)
        sim.take_down()
        sim.set_up()

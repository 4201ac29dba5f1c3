"""Only for the simulated pair; every test finds it, and leaves it, as it was set up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.books import books_balance
from tests.guest.card import CARD, Sim, run

assert isinstance(CARD, Sim)
CARD.set_up()

__all__ = ["books_balance"]


@pytest.fixture(autouse=True)
def sim() -> Iterator[Sim]:
    assert isinstance(CARD, Sim)
    yield CARD
    CARD.quiet()
    CARD.queue_free()
    run("ethtool", "-X", CARD.interface, "start", str(CARD.queue), "equal", "1")

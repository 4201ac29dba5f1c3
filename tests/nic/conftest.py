"""On a pair of simulated cards that nobody has touched, and on the modelled gVNICs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest import program
from tests.guest.books import books_balance
from tests.guest.card import CARD, PATIENT_TCP, Gve, run
from tests.nic.card import Card, Gvnic, journals
from tests.sim.fresh import fresh_pair, untouched

if isinstance(CARD, Gve):
    CARD.bare()
    for prefix in ((), CARD.client_prefix):
        run(*prefix, "sysctl", "-q", *PATIENT_TCP)
else:
    CARD.set_up()
program.starter()  # now, or the test that comes first finds that it has opened something

__all__ = ["books_balance"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Card]:
    if isinstance(CARD, Gve):
        yield Gvnic()
    else:
        with fresh_pair() as card:
            yield card


@pytest.fixture
def card(pair: Card) -> Iterator[Card]:
    """It must be afterwards as it was before, and nothing may warn."""
    with untouched(pair):
        yield pair
    assert journals() == []

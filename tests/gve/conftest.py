"""Only for the modelled gVNICs, which are set up by nobody but the test itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest import program
from tests.guest.books import books_balance
from tests.guest.card import CARD, PATIENT_TCP, Gve, run

assert isinstance(CARD, Gve)
CARD.bare()
for prefix in ((), CARD.client_prefix):
    run(*prefix, "sysctl", "-q", *PATIENT_TCP)
program.starter()  # now, or the test that comes first finds that it has opened something

__all__ = ["books_balance"]


@pytest.fixture(autouse=True)
def gve() -> Iterator[Gve]:
    """Without faults, before and after."""
    assert isinstance(CARD, Gve)
    yield CARD
    if not CARD.is_there:  # a test that failed left it away: the others have theirs
        CARD.bare()
    for nic in (0, 1):
        CARD.ask(nic=nic, do="clear")
    CARD.ask(do="link up")
    CARD.carrier()

"""Sets the card up before anything uses it."""

from tests.guest.books import books_balance
from tests.guest.card import CARD, Sim

if isinstance(CARD, Sim):
    CARD.set_up()

__all__ = ["books_balance"]

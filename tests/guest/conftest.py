"""Sets the card up before anything uses it."""

from tests.guest.card import CARD, Sim

if isinstance(CARD, Sim):
    CARD.set_up()

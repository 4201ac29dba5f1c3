"""Sets the card up before anything uses it."""

from tests.guest import program
from tests.guest.books import books_balance
from tests.guest.card import CARD
from tests.guest.loop import nothing_of_a_loop_leaks

CARD.set_up()
program.starter()  # now, or the test that comes first finds that it has opened something

__all__ = ["books_balance", "nothing_of_a_loop_leaks"]

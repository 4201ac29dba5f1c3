"""One guest for all tests that leave it alive; those that kill theirs boot their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from vm.config import Config
from vm.guest import Guest


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    with Guest(Config(wheel="none")) as guest:
        yield guest


@pytest.fixture
def boot() -> Iterator[Callable[..., Guest]]:
    """Boots guests with these options; killed at the end of the test."""
    guests: list[Guest] = []

    def boot(config: Config | None = None) -> Guest:
        guests.append(Guest(config or Config(wheel="none")))
        return guests[-1]

    yield boot
    for guest in guests:
        guest.kill()

"""What every unit test leaves behind: nothing in the place of the shim, and no memory given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyzcrx._kernel._ffi import FUNCTIONS, lib
from pyzcrx._queue import claims


@pytest.fixture(autouse=True)
def _the_shim_is_real_again() -> Iterator[None]:
    yield
    left = [name for name, real in FUNCTIONS.items() if vars(lib)[name] is not real]
    lib.replace(FUNCTIONS)
    assert not left, f"a kernel in memory is still in the place of {', '.join(left)}"


@pytest.fixture(autouse=True)
def _nothing_is_abandoned() -> Iterator[None]:
    """No NIC reads what a test's kernel in memory was given to send, once that kernel has gone."""
    before = len(claims._abandoned)
    yield
    del claims._abandoned[before:]

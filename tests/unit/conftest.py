"""What every unit test leaves behind: nothing in the place of the shim."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyzcrx._kernel._ffi import FUNCTIONS, lib


@pytest.fixture(autouse=True)
def _the_shim_is_real_again() -> Iterator[None]:
    yield
    left = [name for name, real in FUNCTIONS.items() if vars(lib)[name] is not real]
    lib.replace(FUNCTIONS)
    assert not left, f"a kernel in memory is still in the place of {', '.join(left)}"

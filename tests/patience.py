"""How long the tests wait for what must come: longer on a kernel that checks itself."""

import os
import time
from collections.abc import Callable

SLOW = float(os.environ.get("PYZCRX_TEST_SLOW", "1"))
PATIENCE_S = 30 * SLOW
"""For what is under way."""
START_S = 60 * SLOW
"""For a program to begin or to end."""


def until(
    what: Callable[[], object],
    message: str | Callable[[], str],
    *,
    patience_s: float = PATIENCE_S,
) -> None:
    """Poll *what* until it is true, which it must become, or fail with *message*."""
    deadline = time.monotonic() + patience_s
    while not what():
        if time.monotonic() >= deadline:
            raise AssertionError(message if isinstance(message, str) else message())
        time.sleep(0.02)

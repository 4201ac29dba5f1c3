"""How a ``with`` block ends: what went wrong within is what the user must see."""

from __future__ import annotations

from collections.abc import Callable


def leave(error: BaseException | None, close: Callable[[], None]) -> None:
    """Call *close*; where it fails while *error* is in flight, note that on *error*."""
    try:
        close()
    except Exception as failure:
        if error is None:
            raise
        error.add_note(f"then closing failed: {type(failure).__name__}: {failure}")

"""How a ``with`` block ends: what went wrong within is what the user must see."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self


def leave(error: BaseException | None, close: Callable[[], None]) -> None:
    """Call *close*; where it fails while *error* is in flight, note that on *error*."""
    try:
        close()
    except Exception as failure:
        if error is None:
            raise
        error.add_note(f"then closing failed: {type(failure).__name__}: {failure}")


class Closing:
    """A ``with`` block ends with close()."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave(error, self.close)


class LettingGo:
    """A ``with`` block ends with _let_go(), which never raises."""

    __slots__ = ()

    def _let_go(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()

"""Who has been idle for too long, found in time proportional to those found."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Idle(Generic[T]):
    """Things in the order of their last activity.

    after_s: idle for so long is too long; None: nothing ever is.
    """

    def __init__(self, after_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.after_s = after_s
        self._clock = clock
        self._since: dict[T, float] = {}

    def touch(self, thing: T) -> None:
        """It did something now."""
        if self.after_s is not None:
            self._since.pop(thing, None)
            self._since[thing] = self._clock()

    @property
    def longest(self) -> T | None:
        """What did nothing for the longest time, if there is anything."""
        return next(iter(self._since), None)

    def forget(self, thing: T) -> None:
        """It is gone."""
        self._since.pop(thing, None)

    def wait_s(self) -> float | None:
        """How long nothing can become due; None: as long as nothing is touched."""
        if self.after_s is None or not self._since:
            return None
        since = next(iter(self._since.values()))
        return max(0.0, since + self.after_s - self._clock())

    def due(self) -> Iterator[T]:
        """Those that were idle for too long; they are forgotten."""
        while self._since and self.wait_s() == 0:
            thing = next(iter(self._since))
            del self._since[thing]
            yield thing

"""Cancels a coroutine at one of its awaits: every place where a task can be cancelled is tried.

A task is cancelled while it waits, or once what it waits for has come and before it goes on. The
second form is where an API loses what came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Cancel:
    """Strikes once, at the *nth* await of all the coroutines that it runs."""

    def __init__(self, nth: int, *, late: bool) -> None:
        self.left = nth
        self.late = late
        """Once what is waited for has come."""

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* gives; CancelledError where it was struck."""
        result: T = await _Stepped(coroutine, self._strike)
        return result

    async def again(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The same, and once more after it was struck."""
        struck = self.left <= 0
        try:
            return await self.run(make())
        except asyncio.CancelledError:
            assert not struck
            assert self.left <= 0
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return await make()

    def _strike(self, future: asyncio.Future[Any] | None) -> None:
        self.left -= 1
        if self.left:
            return
        task = asyncio.current_task()
        assert task is not None
        if self.late and future is not None:
            future.add_done_callback(lambda _: task.cancel())  # before the task's own
        else:
            task.cancel()


class _Stepped:
    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], at: Callable[[asyncio.Future[Any] | None], None]
    ) -> None:
        self._coroutine = coroutine
        self._at = at

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    future = self._coroutine.send(None)
                else:
                    future = self._coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            self._at(future)
            error = None
            try:
                yield future
            except BaseException as thrown:
                error = thrown

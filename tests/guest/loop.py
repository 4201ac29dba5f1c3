"""pyzcrx's event loop on the card, and a look at what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from pyzcrx.aio import EventLoop
from tests.guest.card import CARD
from tests.leaks import nothing_leaks
from tests.patience import START_S

AREA = 32 << 20


def run(main: Callable[[EventLoop], Coroutine[Any, Any, Any]], patience_s: float = START_S) -> Any:
    def make() -> EventLoop:
        return EventLoop(area_bytes=AREA, **CARD.register)

    async def timed() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        async with asyncio.timeout(patience_s):
            return await main(loop)

    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(timed())


def in_thread(loop: EventLoop, what: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return loop.run_in_executor(None, what, *args)


@pytest.fixture
def nothing_of_a_loop_leaks() -> Iterator[None]:
    run(lambda _: asyncio.sleep(0))  # what the first one makes is there to stay
    with nothing_leaks():
        yield

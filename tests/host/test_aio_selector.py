"""The selector over a ring: level-triggered, from any thread, and out of the way of close()."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx.aio import EventLoop, RingSelector, loop_factory
from tests.leaks import nothing_leaks
from tests.patience import PATIENCE_S

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    RingSelector().close()
    with nothing_leaks():
        yield


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def ready(selector: RingSelector, timeout: float | None = 0) -> list[tuple[object, int]]:
    return [(key.fileobj, events) for key, events in selector.select(timeout)]


def test_what_stays_unread_is_reported_again(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    with RingSelector() as selector:
        selector.register(one, READ)
        assert ready(selector) == []
        other.send(b"12")
        assert ready(selector, PATIENCE_S) == [(one, READ)]
        one.recv(1)
        assert ready(selector, PATIENCE_S) == [(one, READ)]
        one.recv(1)
        assert ready(selector) == []


def test_modify_takes_effect(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    with RingSelector() as selector:
        selector.register(one, READ, "first")
        assert ready(selector) == []
        selector.modify(one, READ | WRITE, "second")
        assert ready(selector, PATIENCE_S) == [(one, WRITE)]
        assert selector.get_key(one).data == "second"
        other.send(b"1")
        selector.modify(one, WRITE)
        assert ready(selector, PATIENCE_S) == [(one, WRITE)]
        with pytest.raises(ValueError, match="Invalid events"):
            selector.modify(one, 4)
        with pytest.raises(KeyError):
            selector.modify(other, READ)


def test_a_descriptor_is_free_once_it_is_unregistered() -> None:
    with RingSelector() as selector, socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client:
            selector.register(server, READ)
            ready(selector)
            selector.unregister(server)
            server.close()
            client.settimeout(PATIENCE_S)
            assert client.recv(1) == b""


def test_a_descriptor_closed_before_it_is_unregistered(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with RingSelector() as selector:
        selector.register(pair[0], READ)
        pair[0].close()
        assert ready(selector) == []
        assert ready(selector) == []


def test_what_has_no_readiness_is_refused() -> None:
    with RingSelector() as selector, open(__file__) as file, open(os.devnull) as null:
        for each in (file, null):
            with pytest.raises(PermissionError):
                selector.register(each, READ)
            assert len(selector.get_map()) == 0


def test_many_descriptors_are_ready_at_once() -> None:
    n = 300
    pairs = [socket.socketpair() for _ in range(n)]
    with RingSelector() as selector:
        for one, other in pairs:
            selector.register(one, READ)
            other.send(b"x")
        found: set[object] = set()
        while len(found) < n:
            new = {sock for sock, _ in ready(selector, PATIENCE_S)}
            assert new
            found |= new
    for one, other in pairs:
        one.close()
        other.close()


def test_made_here_run_there_closed_here() -> None:
    loop = EventLoop()
    ran: list[int] = []

    def run() -> None:
        loop.call_soon(loop.stop)
        loop.run_forever()
        ran.append(1)

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(PATIENCE_S)
    assert ran == [1, 1]
    loop.close()
    assert loop.is_closed()


def test_a_signal_ends_a_wait() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        caught: asyncio.Future[str] = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, caught.set_result, "caught")
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await caught
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(main()) == "caught"


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    async def main() -> int:
        child = os.fork()
        if child:
            status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, child, 0)
            return status[1]
        try:
            asyncio.events._set_running_loop(None)
            mine = EventLoop()
            mine.run_until_complete(asyncio.sleep(0.001))
            mine.close()
            os._exit(0)
        finally:
            os._exit(1)

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(main()) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"flows": ("tcp4 dst 192.0.2.1:9",)},
        {"rx_queue": 1},
        {"interface": "lo", "rx_queue": 1, "flows": ("tcp4 dst 192.0.2.1:9",)},
        {"area_bytes": 0},
    ],
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument):
        EventLoop(**options)  # type: ignore[arg-type]


def test_who_makes_a_server_has_the_error() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)

    with (
        asyncio.Runner(loop_factory=loop_factory(interface="lo", rx_queue=0)) as runner,
        pytest.raises(pyzcrx.KernelError),
    ):
        runner.run(main())

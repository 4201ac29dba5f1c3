"""When a connection that cannot send is read on."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from pyzcrx.aio import stall
from pyzcrx.aio.stall import Stall
from pyzcrx.errors import ClosedError

TICK_S = 0.01


class Connection:
    """Something that waits to be sent on a socket whose peer takes what a test says."""

    def __init__(self) -> None:
        self.acked_bytes = 0
        self.waits = True
        self.relieved = 0
        self.failure: Exception | None = None
        self.stall = Stall(asyncio.get_running_loop(), self, lambda: self.waits, lambda: self.it)

    @property
    def it(self) -> Any:
        return self

    def getsockopt(self, level: int, name: int, size_bytes: int) -> bytes:
        assert (level, name) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return bytes(120) + struct.pack("=Q", self.acked_bytes) + bytes(size_bytes - 128)

    def relieve(self) -> None:
        self.relieved += 1
        if self.failure is not None:
            raise self.failure


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "AFTER_S", TICK_S)


async def until_relieved(connection: Connection, times: int) -> None:
    async with asyncio.timeout(30):
        while connection.relieved < times:
            await asyncio.sleep(TICK_S)


def test_it_goes_on_while_nothing_is_taken() -> None:
    async def main() -> None:
        connection = Connection()
        connection.stall.begin()
        connection.stall.begin()
        await until_relieved(connection, 3)
        connection.failure = ClosedError("the ring was closed")
        await until_relieved(connection, 5)
        connection.stall.end()
        connection.stall.end()
        assert connection.stall._timer is None

    asyncio.run(main())


def test_not_while_its_peer_takes_some() -> None:
    async def main() -> None:
        connection = Connection()
        connection.stall.begin()
        for _ in range(10):
            timer = connection.stall._timer
            connection.acked_bytes += 1
            while connection.stall._timer is timer:
                await asyncio.sleep(0)
        assert connection.relieved == 0
        connection.stall.end()

    asyncio.run(main())


def test_not_once_all_is_sent() -> None:
    async def main() -> None:
        connection = Connection()
        connection.stall.begin()
        connection.waits = False
        while connection.stall._timer is not None:
            await asyncio.sleep(0)
        assert connection.relieved == 0
        connection.stall.begin()
        assert connection.stall._timer is None

    asyncio.run(main())


def test_a_socket_that_was_closed_has_no_progress() -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.close()
        watch = Stall(asyncio.get_running_loop(), sock, lambda: True, lambda: None)
        assert watch._acked_bytes() == 0
        with socket.socket() as other:
            assert Stall(asyncio.get_running_loop(), other, bool, lambda: None)._acked_bytes() == 0

    asyncio.run(main())

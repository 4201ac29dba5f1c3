"""What a stream of ours sends by its ring: order, room, ends, failures, on the kernel in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pyzcrx
from pyzcrx import aio
from pyzcrx._send.policy import LEAST_BYTES
from pyzcrx.aio.attach import attach_delivery
from pyzcrx.aio.connection import Connection
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.unit.test_model import receiving, settled

PAGE = 4096
pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


class Wire(asyncio.Transport):
    """A transport that sends at once, or holds everything back."""

    def __init__(self, sock: ModelSocket) -> None:
        super().__init__({"socket": sock})
        self.sock = sock
        self.held = bytearray()
        self.holds = False
        self.protocol: Any = None
        self.said: list[str] = []

    def write(self, data: Any) -> None:
        (self.held if self.holds else self.sock.sent).extend(data)

    def let_go(self) -> None:
        self.sock.sent += self.held
        self.held.clear()
        self.holds = False

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 4 * PAGE, 16 * PAGE

    def pause_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return "close" in self.said or "abort" in self.said

    def write_eof(self) -> None:
        self.said.append("eof")

    def close(self) -> None:
        if not self.is_closing():
            self.said.append("close")
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        if not self.is_closing():
            self.said.append("abort")
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Side:
    """Our side of a connection, and the peer."""

    def __init__(self, kernel: ModelKernel, ring: pyzcrx.Ring, ifq: pyzcrx.Ifq) -> None:
        self.ring = ring
        self.sock = kernel.socket()
        self.wire = Wire(self.sock)
        self.connection = Connection(attach_delivery(ifq._delivery), ifq, None, 1 << 16, None)
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)
        self.reader, self.writer = self.connection.streams()

    async def chunk(self, data: bytes) -> Any:
        """*data*, received."""
        for at in range(0, len(data), PAGE):
            self.sock.send(data[at : at + PAGE])
        while self.reader._chunks.nbytes < len(data):
            self.reader._reading.go_on()
            await asyncio.sleep(0)
        return self.reader._chunks.next_chunk()


@asynccontextmanager
async def connected() -> AsyncIterator[Side]:
    kernel = ModelKernel(cq_entries=64)
    with receiving(kernel, pages=64) as (ring, ifq):
        side = Side(kernel, ring, ifq)
        yield side
        side.sock.acknowledges = True
        side.sock.acknowledge()
        side.writer.close()
        try:
            await side.writer.wait_closed()
        except OSError:
            assert "abort" in side.wire.said
        settled(kernel, ring, ifq)
        ifq.audit()


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


LARGE = bytes(range(256)) * (LEAST_BYTES // 256 + 16)


def test_a_chunk_is_sent_from_where_it_lies() -> None:
    async def body() -> None:
        async with connected() as side:
            side.sock.acknowledges = False
            side.writer.write(await side.chunk(LARGE))
            await side.writer.drain()
            while side.ring.send_stats().accepted_bytes < len(LARGE):
                await asyncio.sleep(0)
            stats = side.ring.send_stats()
            assert stats.bytes_zero_copy + stats.bytes_copied == len(LARGE)
            assert side.wire.held == b""
            side.sock.acknowledges = True
            side.sock.acknowledge()
            while side.ring.send_stats().unnotified_bytes:
                await asyncio.sleep(0)
            assert side.sock.sent == LARGE

    run(body)


@pytest.mark.parametrize("asked", [True, False])
def test_how_chunks_are_sent_is_the_users_choice(asked: bool) -> None:
    async def body() -> None:
        async with connected() as side:
            side.writer.zero_copy = asked
            assert side.writer.zero_copy is asked
            for data in (LARGE, b"small"):
                side.writer.write(await side.chunk(data))
                while side.ring.send_stats().accepted_bytes < len(LARGE):
                    await asyncio.sleep(0)
            side.writer.write(b"end")
            while side.sock.sent != LARGE + b"smallend":
                await asyncio.sleep(0)
            stats = side.ring.send_stats()
            assert stats.bytes_zero_copy == (len(LARGE) + 5 if asked else 0)
            assert stats.copied.get("asked", 0) == (0 if asked else len(LARGE))

    run(body)


def test_the_order_is_kept() -> None:
    async def body() -> None:
        async with connected() as side:
            expected = b""
            for data in (b"before", LARGE, b"behind", bytearray(b"changing"), LARGE, b"x" * 9):
                if data is LARGE:
                    side.writer.write(await side.chunk(LARGE))
                else:
                    side.writer.write(data)
                    if isinstance(data, bytearray):
                        data[:] = b"CHANGED!"
                        data = b"changing"
                expected += data
            side.writer.writelines([b"1", memoryview(b"2"), b""])
            side.writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                side.writer.write(b"late")
            while "eof" not in side.wire.said:
                await asyncio.sleep(0)
            assert side.sock.sent == expected + b"12"

    run(body)


def test_a_transport_that_holds_bytes_back_is_not_overtaken() -> None:
    async def body() -> None:
        async with connected() as side:
            side.wire.holds = True
            side.writer.write(b"first")
            side.writer.write(await side.chunk(LARGE))
            assert side.ring.send_stats().sends == 0
            side.wire.let_go()
            assert side.sock.sent == b"first" + LARGE
            small = await side.chunk(b"small")
            side.writer.write(small)
            assert side.sock.sent == b"first" + LARGE + b"small"

    run(body)


def test_writers_wait_for_room() -> None:
    async def body() -> None:
        async with connected() as side:
            side.sock.room_bytes = 0
            for _ in range(5):
                side.writer.write(await side.chunk(LARGE))
            draining = asyncio.ensure_future(side.writer.drain())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not draining.done()
            assert not side.writer.is_closing()
            side.writer.close()
            assert side.writer.is_closing()
            assert "close" not in side.wire.said
            side.sock.room_bytes = None
            side.sock._changed()
            await draining
            await side.writer.wait_closed()
            assert side.sock.sent == 5 * LARGE

    run(body)


def test_a_send_that_fails_ends_the_connection() -> None:
    async def body() -> None:
        async with connected() as side:
            chunk = await side.chunk(LARGE)
            side.sock.error = errno.EPIPE
            side.writer.write(chunk)
            while not side.connection._lost:
                await asyncio.sleep(0)
            with pytest.raises(ConnectionResetError):
                await side.writer.drain()
            with pytest.raises(OSError, match="EPIPE"):
                await side.writer.wait_closed()
            assert side.wire.said == ["abort"]

    run(body)


def test_a_ring_that_is_closed_meanwhile() -> None:
    async def body() -> None:
        kernel = ModelKernel(cq_entries=64)
        with receiving(kernel, pages=64) as (ring, ifq):
            side = Side(kernel, ring, ifq)
            side.sock.room_bytes = 0
            side.writer.write(await side.chunk(LARGE))
            side.writer.close()
            ring.close()
            await side.writer.wait_closed()
            assert "close" in side.wire.said

    run(body)


def test_a_released_chunk_is_refused() -> None:
    async def body() -> None:
        async with connected() as side:
            chunk = await side.chunk(LARGE)
            chunk.release()
            with pytest.raises(pyzcrx.ClosedError):
                side.writer.write(chunk)
            assert isinstance(side.writer, aio.StreamWriter)

    run(body)


def test_bytes_that_the_loop_reads_itself_end_the_connection() -> None:
    """They are missing in the stream, which must not look whole."""

    async def body() -> None:
        kernel = ModelKernel(cq_entries=64)
        with receiving(kernel, pages=64) as (ring, ifq):
            side = Side(kernel, ring, ifq)
            side.connection.data_received(b"abc")
            side.connection.data_received(b"d")
            assert side.wire.said == ["abort"]
            for ends in (side.reader.read, side.writer.wait_closed):
                with pytest.raises(pyzcrx.errors.BadArgument, match="read 3 bytes of a paused"):
                    await ends()

    run(body)

"""The event loop on a kernel in memory: forms of protocol, pauses, interruptions, ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import pyzcrx
from pyzcrx import aio
from pyzcrx.aio import EventLoop, LeaseProtocol
from pyzcrx.aio.connection import Connection
from pyzcrx.testing import ModelKernel
from pyzcrx.types import Chunk

PAGE = 4096
AREA = 64 * PAGE

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


class Recorder:
    """What a protocol was told, in order."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.said: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def eof_received(self) -> bool | None:
        self.said.append("eof")
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class Plain(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data


class Buffered(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, _sizehint: int) -> bytearray:
        self.memory = bytearray(100)
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.memory[:nbytes]


class Lease(Recorder, LeaseProtocol):
    def chunk_received(self, chunk: Chunk) -> None:
        with chunk:
            self.data += bytes(chunk)


class Broken(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        raise ValueError(data)


class Empty(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, _sizehint: int) -> bytearray:
        return bytearray()


@pytest.fixture
def kernel() -> Iterator[ModelKernel]:
    with ModelKernel() as kernel:
        yield kernel
        assert kernel.breaches == []


def run(main: Callable[[EventLoop], Coroutine[Any, Any, Any]]) -> Any:
    async def timed() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        async with asyncio.timeout(30):
            return await main(loop)

    with asyncio.Runner(loop_factory=aio.loop_factory(area_bytes=AREA)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, EventLoop)
        result = runner.run(timed())
        loop.ifq.audit()
    assert loop.ifq._core.account.leased == 0
    return result


def connect(loop: EventLoop, kernel: ModelKernel, make: Callable[[], Any]) -> tuple[Any, Any]:
    """A connection of the kernel in memory as asyncio makes it of one that was accepted."""
    peer = kernel.socket()
    sock = socket.socket(fileno=os.dup(peer.fileno()))
    sock.setblocking(False)
    protocol = make()
    loop._make_socket_transport(sock, protocol)
    return protocol, peer


async def until(what: Callable[[], object]) -> None:
    while not what():
        await asyncio.sleep(0)


@pytest.mark.parametrize("form", [Plain, Buffered, Lease])
def test_each_form_of_protocol(kernel: ModelKernel, form: Callable[[], Any]) -> None:
    data = bytes(range(256)) * 200

    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, form)
        for at in range(0, len(data), 5000):
            peer.send(data[at : at + 5000])
            await asyncio.sleep(0)
        peer.finish()
        assert await protocol.lost is None
        assert protocol.data == data
        assert protocol.said == ["eof"]

    run(main)


@pytest.mark.parametrize("form", [Plain, Buffered, Lease])
def test_a_pause_holds_what_came(kernel: ModelKernel, form: Callable[[], Any]) -> None:
    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, form)
        await until(lambda: protocol.transport)
        protocol.transport.pause_reading()
        total = 40 * PAGE
        for _ in range(40):
            peer.send(bytes(PAGE))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not protocol.data
        assert loop.ifq.total_bytes <= AREA // 16 + PAGE
        peer.finish()
        protocol.transport.resume_reading()
        await protocol.lost
        assert len(protocol.data) == total

    run(main)


def test_a_pause_in_the_middle_of_a_turn(kernel: ModelKernel) -> None:
    class Pausing(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, Pausing)
        for i in range(10):
            peer.send(b"%d" % i * 6000)
        peer.finish()
        await protocol.lost
        assert protocol.data == b"".join(b"%d" % i * 6000 for i in range(10))

    run(main)


def test_what_is_received_on_for_who_cannot_send_has_an_end(kernel: ModelKernel) -> None:
    data = bytes(i * 7 % 251 for i in range(40 * PAGE))

    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, Plain)
        await until(lambda: protocol.transport)
        protocol.transport.pause_reading()
        peer.send(data)
        reading = protocol.transport._reading
        found = []
        for _ in range(40):
            reading.relieve()
            for _ in range(3):
                await asyncio.sleep(0)
            found.append(reading.chunks.nbytes)
        assert found == sorted(found)
        at_once = reading.chunks.at_once_bytes
        assert at_once < found[-1] == found[-2] <= 3 * at_once + PAGE
        assert not protocol.data
        peer.finish()
        protocol.transport.resume_reading()
        await protocol.lost
        assert protocol.data == data

    run(main)


class Counting(asyncio.StreamReader):
    """Not asyncio's own: it sees every byte."""

    seen = 0

    def feed_data(self, data: Any) -> None:
        assert type(data) is bytes
        self.seen += len(data)
        super().feed_data(data)


async def close(reader: asyncio.StreamReader, protocol: Any) -> None:
    transport = reader._transport  # type: ignore[attr-defined]
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("kind", [asyncio.StreamReader, Counting])
@pytest.mark.parametrize("limit", [100, 3 * PAGE, 1 << 20])
@pytest.mark.parametrize("debug", [False, True])
def test_streams_of_asyncio(
    kernel: ModelKernel, kind: type[asyncio.StreamReader], limit: int, debug: bool
) -> None:
    data = bytes(i * 7 % 251 for i in range(60 * PAGE))

    async def main(loop: EventLoop) -> None:
        loop.set_debug(debug)
        reader = kind(limit=limit, loop=loop)
        made = asyncio.StreamReaderProtocol(reader, loop=loop)
        protocol, peer = connect(loop, kernel, lambda: made)
        for at in range(0, len(data), 5000):
            peer.send(data[at : at + 5000])
        peer.finish()
        assert await reader.readexactly(10) == data[:10]
        assert await reader.readuntil(data[20:23]) == data[10:23]
        got = b""
        while piece := await reader.read(3000):
            got += piece
        assert data[23:] == got
        assert reader.at_eof()
        if isinstance(reader, Counting):
            assert reader.seen == len(data)
        await close(reader, protocol)

    run(main)


def test_a_stream_that_nobody_reads_is_paused(kernel: ModelKernel) -> None:
    async def main(loop: EventLoop) -> None:
        reader = asyncio.StreamReader(limit=PAGE, loop=loop)
        made = asyncio.StreamReaderProtocol(reader, loop=loop)
        protocol, peer = connect(loop, kernel, lambda: made)
        for _ in range(40):
            peer.send(bytes(PAGE))
        for _ in range(20):
            await asyncio.sleep(0)
        there = len(reader._buffer)  # type: ignore[attr-defined]
        assert 2 * PAGE < there <= AREA // 16 + PAGE
        peer.finish()
        assert len(await reader.read(-1)) == 40 * PAGE
        await close(reader, protocol)

    run(main)


def test_a_protocol_that_pauses_and_resumes_at_once_starves_nobody(kernel: ModelKernel) -> None:
    class Restless(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.resume_reading()

    async def main(loop: EventLoop) -> None:
        restless, peer = connect(loop, kernel, Restless)
        other, other_peer = connect(loop, kernel, Plain)
        for _ in range(4):
            peer.send(bytes(PAGE))
            other_peer.send(bytes(PAGE))
        peer.finish()
        other_peer.finish()
        await restless.lost
        await other.lost
        assert len(restless.data) == len(other.data) == 4 * PAGE

    run(main)


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.ETIMEDOUT])
def test_a_failure_comes_after_the_data(kernel: ModelKernel, number: int) -> None:
    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, Plain)
        peer.send(b"before")
        peer.error = number
        error = await protocol.lost
        assert isinstance(error, pyzcrx.KernelError)
        assert error.errno == number
        assert protocol.data == b"before"
        assert protocol.said == []

    run(main)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_no_data_after_the_end_of_ours(kernel: ModelKernel, how: str) -> None:
    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, Plain)
        peer.send(b"one")
        await until(lambda: protocol.data)
        getattr(protocol.transport, how)()
        peer.send(b"two")
        assert await protocol.lost is None
        assert protocol.data == b"one"
        assert loop.ring.ifqs[0]._core.parked == 0
        assert not [r for r in loop.ring._core.operations() if isinstance(r, pyzcrx.Request)]

    run(main)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_end_of_ours_in_the_middle_of_the_data(kernel: ModelKernel, how: str) -> None:
    class Ending(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            getattr(self.transport, how)()

    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, Ending)
        for i in range(10):
            peer.send(b"%d" % i * PAGE)
        peer.finish()
        assert await protocol.lost is None
        data = b"".join(b"%d" % i * PAGE for i in range(10))
        assert protocol.data
        assert data.startswith(protocol.data)
        assert protocol.said == []

    run(main)


@pytest.mark.parametrize("first", [Plain, Buffered, Lease])
@pytest.mark.parametrize("then", [Plain, Buffered, Lease])
def test_a_protocol_that_takes_the_place_of_another(
    kernel: ModelKernel, first: Callable[[], Any], then: Callable[[], Any]
) -> None:
    """As loop.start_tls() does: what lies there is for the new one."""
    data = bytes(range(256)) * 100

    async def main(loop: EventLoop) -> None:
        protocol, peer = connect(loop, kernel, first)
        peer.send(data[:5000])
        await until(lambda: len(protocol.data) == 5000)
        protocol.transport.pause_reading()
        for at in range(5000, len(data), 3000):
            peer.send(data[at : at + 3000])
        for _ in range(5):
            await asyncio.sleep(0)
        later = then()
        later.transport = protocol.transport
        protocol.transport.set_protocol(later)
        protocol.transport.resume_reading()
        peer.finish()
        assert await later.lost is None
        assert protocol.data + later.data == data
        assert len(protocol.data) == 5000

    run(main)


@pytest.mark.parametrize("form", [Broken, Empty])
def test_a_protocol_that_raises_loses_its_connection(
    kernel: ModelKernel, form: Callable[[], Any]
) -> None:
    async def main(loop: EventLoop) -> None:
        told: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        protocol, peer = connect(loop, kernel, form)
        peer.send(b"data")
        assert isinstance(await protocol.lost, ValueError | RuntimeError)
        assert len(told) == 1
        assert "call failed" in told[0]["message"]

    run(main)


def test_an_interrupted_callback_costs_other_connections_nothing(kernel: ModelKernel) -> None:
    class Interrupted(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"stop":
                raise KeyboardInterrupt

    loop = EventLoop(area_bytes=AREA)
    made: list[tuple[Any, Any]] = []

    async def begin() -> None:
        made.extend(connect(loop, kernel, Interrupted) for _ in range(3))
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    for (_, peer), data in zip(made, [b"go on", b"stop", b"further"], strict=True):
        peer.send(data)
        peer.finish()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(30))
    loop.run_until_complete(asyncio.gather(*(protocol.lost for protocol, _ in made)))
    assert [bytes(protocol.data) for protocol, _ in made] == [b"go on", b"stop", b"further"]
    loop.close()


def test_closed_with_connections_open(kernel: ModelKernel) -> None:
    async def main(loop: EventLoop) -> Any:
        protocol, peer = connect(loop, kernel, Plain)
        peer.send(b"x" * 3 * PAGE)
        await until(lambda: protocol.data)
        protocol.transport.pause_reading()
        peer.send(b"y" * 3 * PAGE)
        await asyncio.sleep(0)
        return protocol

    run(main)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_streams_of_ours_share_the_loops_ring(kernel: ModelKernel) -> None:
    async def main(loop: EventLoop) -> None:
        attached = aio.attach(loop.ring)
        plain, peer = connect(loop, kernel, Plain)
        peer.send(b"one")
        await until(lambda: plain.data)
        attached.close()
        peer.send(b"two")
        peer.finish()
        await plain.lost
        assert plain.data == b"onetwo"

    run(main)


def test_streams_of_ours_take_the_loops_own_turns(kernel: ModelKernel) -> None:
    async def main(loop: EventLoop) -> None:
        peers = [kernel.socket() for _ in range(3)]
        made = []
        for peer in peers:
            sock = socket.socket(fileno=os.dup(peer.fileno()))
            sock.setblocking(False)
            connection = Connection(aio.attach(loop.ring), loop.ifq, None, 1 << 16, None)
            loop._make_socket_transport(sock, connection)
            await asyncio.sleep(0)
            made.append(connection.streams())
        assert not loop.ring._core.watched
        readers = [asyncio.ensure_future(collected(reader)) for reader, _ in made]
        for i, peer in enumerate(peers):
            for _ in range(5):
                peer.send(b"%d" % i * 3000)
                await asyncio.sleep(0)
            peer.finish()
        assert await asyncio.gather(*readers) == [b"%d" % i * 15000 for i in range(3)]
        for _, writer in made:
            writer.close()
            await writer.wait_closed()

    async def collected(reader: aio.StreamReader) -> bytes:
        received = bytearray()
        async for chunk in reader:
            with chunk:
                received += bytes(chunk)
        return bytes(received)

    run(main)

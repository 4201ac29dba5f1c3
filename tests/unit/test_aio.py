"""Readers on an event loop, on the kernel in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx import aio, errors
from pyzcrx._kernel.memory import PAGE
from pyzcrx.aio.attach import attach_delivery
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.unit.test_model import receiving, settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@asynccontextmanager
async def reading(
    limit: int = 1 << 16, **options: Any
) -> AsyncIterator[tuple[aio.StreamReader, ModelSocket]]:
    """A reader, and the peer; everything is given back in the end."""
    kernel = ModelKernel(cq_entries=64)
    with receiving(kernel, pages=64) as (ring, ifq):
        sock = kernel.socket()
        connection = ifq._reading(sock.fileno(), None)
        reader = aio.StreamReader(attach_delivery(ifq._delivery), connection, limit, **options)
        yield reader, sock
        connection.request.cancel()
        while not connection.request.over:
            await asyncio.sleep(0.001)
        connection.end()
        del reader
        settled(kernel, ring, ifq)
        ifq.audit()


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


def test_every_way_to_read() -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            for segment in (b"12", b"345678li", b"ne\nend;" + b"x" * 10):
                sock.send(segment)
            assert await reader.readexactly(4) == b"1234"
            assert await reader.read(4) == b"5678"[: len(b"5678")]
            assert await reader.readline() == b"line\n"
            assert await reader.readuntil(b";") == b"end;"
            memory = bytearray(4)
            assert await reader.readinto(memory) == 4
            assert memory == b"xxxx"
            assert not reader.at_eof()
            sock.finish()
            assert await reader.read() == b"x" * 6
            assert reader.at_eof()
            assert await reader.read(5) == await reader.read() == await reader.readline() == b""
            assert [chunk async for chunk in reader] == []

    run(body)


def test_chunks_are_the_readers_to_release() -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            sock.send(b"a" * (2 * PAGE))
            sock.send(b"b")
            sock.finish()
            received = bytearray()
            async for chunk in reader:
                with chunk:
                    for view in chunk.views():
                        received += view
                    del view
            assert received == b"a" * (2 * PAGE) + b"b"
            assert reader.statistics["viewed_bytes"] == len(received)
            assert reader.statistics["gathered_bytes"] == 0

    run(body)


@pytest.mark.parametrize(
    ("read", "partial"),
    [
        (lambda reader: reader.readexactly(10), b"cut"),
        (lambda reader: reader.readuntil(b";"), b"cut"),
    ],
)
def test_a_stream_that_ends_too_soon(read: Any, partial: bytes) -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            sock.send(b"cut")
            sock.finish()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await read(reader)
            assert caught.value.partial == partial
            assert reader.at_eof()

    run(body)


def test_a_separator_that_does_not_come() -> None:
    async def body() -> None:
        async with reading(limit=100) as (reader, sock):
            sock.send(b"a" * 200 + b"\nrest\n")
            with pytest.raises(asyncio.LimitOverrunError):
                await reader.readuntil()
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            assert await reader.readline() == b"rest\n"

    run(body)


def test_a_connection_that_fails() -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            sock.send(b"before")
            sock.error = errno.ECONNRESET
            assert await reader.readexactly(6) == b"before"
            for read in (reader.read(), reader.read(1), reader.readexactly(1), reader.readline()):
                with pytest.raises(errors.PeerReset):
                    await read
            with pytest.raises(errors.PeerReset):
                await anext(reader)
            assert isinstance(reader.exception(), errors.PeerReset)

    run(body)


def test_one_call_at_a_time() -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            first = asyncio.ensure_future(reader.readexactly(2))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another coroutine"):
                await reader.read(1)
            sock.send(b"ab")
            assert await first == b"ab"

    run(body)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=9), max_size=8), st.data())
def test_cancelled_calls_lose_no_byte(segments: list[bytes], data: st.DataObject) -> None:
    cancels = data.draw(st.lists(st.booleans(), min_size=40, max_size=40))
    sent = b"".join(segments)

    async def body() -> None:
        received = bytearray()
        async with reading() as (reader, sock):
            for segment, cancelled in zip([*segments, b""], cancels, strict=False):
                if cancelled:  # wherever it waits, and once more before it began
                    for turns in range(3):
                        task = asyncio.ensure_future(reader.readexactly(len(sent) + 1))
                        for _ in range(turns):
                            await asyncio.sleep(0)
                        task.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await task
                if segment:
                    sock.send(segment)
            sock.finish()
            while part := await reader.read(3):
                received += part
        assert received == sent

    run(body)


def test_a_ring_that_is_closed_wakes_its_readers() -> None:
    async def body() -> None:
        kernel = ModelKernel(cq_entries=64)
        with receiving(kernel, pages=8) as (ring, ifq):
            sock = kernel.socket()
            connection = ifq._reading(sock.fileno(), None)
            attached = aio.attach(ring)
            reader = aio.StreamReader(attached, connection, 100)
            waiting = asyncio.ensure_future(reader.read(1))
            await asyncio.sleep(0.01)
            ring.close()
            with pytest.raises(pyzcrx.ClosedError):
                await waiting
            with pytest.raises(pyzcrx.ClosedError):
                await reader.read(1)
            assert attached.closed

    run(body)


def test_a_ring_goes_to_one_loop_and_then_to_the_next() -> None:
    kernel = ModelKernel(cq_entries=64)
    with receiving(kernel, pages=8) as (ring, _):

        async def attach() -> aio.Attached:
            assert aio.attach(ring) is aio.attach(ring)
            return aio.attach(ring)

        first = asyncio.run(attach())
        assert asyncio.run(attach()) is not first
        assert first.closed

        async def elsewhere() -> None:
            other = asyncio.new_event_loop()
            aio.attach(ring)
            with pytest.raises(RuntimeError, match="another event loop"):
                aio.attach(ring, other)
            other.close()

        asyncio.run(elsewhere())


def test_events_that_are_no_streams() -> None:
    async def body() -> None:
        kernel = ModelKernel(cq_entries=64)
        with receiving(kernel, pages=8) as (ring, ifq):
            sock = kernel.socket()
            ifq.receive(sock.fileno())
            attached = aio.attach(ring)
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, sock.send, b"ab")
            loop.call_later(0.02, sock.finish)
            received = bytearray()
            async for event in attached.events():
                match event:
                    case pyzcrx.Data(buffer=buffer):
                        received += buffer
                        buffer.release()
                    case pyzcrx.Failed(error=error):
                        raise error
            assert received == b"ab"

    run(body)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda reader: reader.readexactly(-1), errors.BadArgument),
        (lambda reader: reader.readuntil(b""), errors.BadArgument),
        (lambda reader: reader.readinto(b"read-only"), errors.BadArgument),
        (lambda reader: reader.read(1.5), errors.BadArgument),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception]) -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            sock.send(b"data")
            with pytest.raises(error):
                await call(reader)
            assert await reader.read(10) == b"data"

    run(body)


def test_a_turn_that_filled_an_inbox_asks_for_no_other() -> None:
    async def body() -> None:
        async with reading() as (reader, sock):
            delivery = reader._attached._delivery
            waiting = asyncio.ensure_future(reader.read(100))
            await asyncio.sleep(0.01)
            turns = 0
            collect = delivery.collect

            def counted(wait_ns: int) -> None:
                nonlocal turns
                turns += 1
                collect(wait_ns)

            delivery.collect = counted  # type: ignore[method-assign]
            sock.send(b"data")
            assert await waiting == b"data"
            assert turns == 1
            await asyncio.sleep(0.01)
            assert turns == 2  # gives the buffer back
            delivery.collect = collect  # type: ignore[method-assign]

    run(body)


def test_a_loop_that_reads_before_it_can_be_paused_is_refused() -> None:
    """As uvloop does."""
    named = type("Loop", (asyncio.SelectorEventLoop,), {"__module__": "uvloop"})

    async def body(ifq: pyzcrx.Ifq) -> None:
        with pytest.raises(errors.BadArgument, match="uvloop reads before"):
            await aio.start_server(lambda *_: None, "127.0.0.1", 0, ifq=ifq)
        with pytest.raises(errors.BadArgument, match="uvloop reads before"):
            await aio.open_connection("127.0.0.1", 9, ifq=ifq)

    with receiving(ModelKernel()) as (_, ifq), asyncio.Runner(loop_factory=named) as runner:
        runner.run(body(ifq))

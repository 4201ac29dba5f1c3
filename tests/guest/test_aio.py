"""asyncio streams on real TCP: parity with asyncio's, broken peers, slow readers, many at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import pytest

import pyzcrx
from pyzcrx import aio, errors
from tests.cancellation import Cancel
from tests.guest.card import CARD, connect, register
from tests.guest.echo import exchange
from tests.guest.test_receive import MIB
from tests.leaks import nothing_leaks
from tests.patience import PATIENCE_S, START_S

AREA = 32 * MIB

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")

Handle: TypeAlias = Callable[[Any, Any], Awaitable[None]]
Client: TypeAlias = Callable[[socket.socket], Any]


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


@contextmanager
def receiver(area_bytes: int = AREA, **options: Any) -> Iterator[pyzcrx.Ifq]:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(area_bytes) as area:
        ifq = register(ring, area, **options)
        yield ifq
        ifq.audit()
        assert ifq.stats().held_buffers == 0


@asynccontextmanager
async def serving(handle: Handle, ifq: pyzcrx.Ifq | None, **options: Any) -> AsyncIterator[int]:
    """A server by ours, or without an ifq by asyncio's streams; gives its port."""
    ended = asyncio.Event()
    ended.set()
    count = 0

    async def counted(reader: Any, writer: Any) -> None:
        nonlocal count
        count += 1
        ended.clear()
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            count -= 1
            if not count:
                ended.set()

    if ifq is None:
        server = await asyncio.start_server(counted, CARD.server, 0, **options)
    else:
        server = await aio.start_server(counted, CARD.server, 0, ifq=ifq, **options)
    try:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()
    finally:
        server.close()
        await server.wait_closed()


async def client(port: int, talk: Client) -> Any:
    """What *talk* gives, in a thread: a client's connection is of another namespace."""

    def connected() -> Any:
        with connect(port) as sock:
            return talk(sock)

    return await asyncio.to_thread(connected)


def run(body: Callable[[], Awaitable[None]], patience_s: float = START_S) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(body(), patience_s)

    asyncio.run(bounded())


def received(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def exchanged(data: bytes) -> Client:
    """Sends *data* and the end, and gives what comes back."""

    return lambda sock: exchange(sock, data)


async def echo_chunks(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
    async for chunk in reader:
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


@pytest.mark.parametrize("zero_copy", [None, True])
def test_echo_by_chunks(zero_copy: bool | None) -> None:
    data = os.urandom(8 * MIB)

    async def echo(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        writer.zero_copy = zero_copy
        await echo_chunks(reader, writer)

    async def body() -> None:
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(AREA) as area:
            ifq = register(ring, area)
            async with serving(echo, ifq) as port:
                back = await client(port, exchanged(data))
            assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
            assert CARD.copied(ifq.stats().as_dict())
            sent = ring.send_stats()
            assert sent.accepted_bytes > len(data) // 2  # small chunks go by the transport
            if zero_copy:
                local = 0 if CARD.zero_copy else sent.accepted_bytes
                assert sent.copied.get("local", 0) == local
                assert sent.bytes_zero_copy + sum(sent.copied.values()) == sent.accepted_bytes
                assert (sent.bytes_zero_copy > 0) == CARD.zero_copy
            while sent.unnotified_bytes:
                await asyncio.sleep(0.01)
                sent = ring.send_stats()
            ifq.audit()
            assert ifq.stats().held_buffers == 0

    run(body)


# -- one set of cases, on asyncio's streams and on ours ---------------------------------


async def by_line(reader: Any, writer: Any) -> None:
    while line := await reader.readline():
        writer.write(b"<" + line + b">")
    await writer.drain()


async def by_frame(reader: Any, writer: Any) -> None:
    try:
        while True:
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            writer.write(await reader.readexactly(size))
            await writer.drain()
    except asyncio.IncompleteReadError as error:
        writer.write(b"left %d of %d" % (len(error.partial), error.expected or -1))


async def by_separator(reader: Any, writer: Any) -> None:
    try:
        while True:
            writer.write((await reader.readuntil(b"--"))[::-1])
    except asyncio.IncompleteReadError as error:
        writer.write(error.partial)


async def by_all(reader: Any, writer: Any) -> None:
    data = await reader.read()
    writer.write(hashlib.sha256(data).digest())
    assert reader.at_eof()
    assert await reader.read() == await reader.read(9) == b""


async def by_pieces(reader: Any, writer: Any) -> None:
    size = 1
    while piece := await reader.read(size):
        assert len(piece) <= size
        writer.write(piece)
        size = size * 2 % 65_521
        await writer.drain()


async def too_long(reader: Any, writer: Any) -> None:
    try:
        await reader.readline()
    except ValueError:
        writer.write(b"too long")
    await reader.read()  # or the end would be a reset


FRAMES = b"".join(struct.pack("!I", n) + os.urandom(n) for n in (0, 1, 4095, 4096, 4097, 200_000))
CASES: dict[str, tuple[Handle, bytes]] = {
    "lines": (by_line, b"a\n" + b"b" * 5000 + b"\n\nlast"),
    "frames": (by_frame, FRAMES),
    "a cut frame": (by_frame, FRAMES + b"\0\0\1\0xyz"),
    "separators": (by_separator, b"abc--" + b"-d" * 5000 + b"-" + b"--end"),
    "all": (by_all, os.urandom(1 * MIB)),
    "pieces": (by_pieces, os.urandom(300_000)),
    "too long": (too_long, b"a" * 70_000 + b"\n"),
    "nothing": (by_all, b""),
}


@pytest.mark.parametrize("name", CASES)
def test_parity_with_asyncio(name: str) -> None:
    handle, data = CASES[name]

    async def body() -> None:
        async with serving(handle, None) as port:
            expected = await client(port, exchanged(data))
        with receiver() as ifq:
            async with serving(handle, ifq) as port:
                assert await client(port, exchanged(data)) == expected

    run(body)


# -- ends ---------------------------------------------------------------------------------


def test_half_close_both_ways() -> None:
    async def ours_first(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        writer.write(b"all we have")
        writer.write_eof()
        assert await reader.read() == b"and all the client has"

    def talk(sock: socket.socket) -> bytes:
        got = received(sock)
        sock.sendall(b"and all the client has")
        return got

    async def body() -> None:
        with receiver() as ifq:
            async with serving(ours_first, ifq) as port:
                assert await client(port, talk) == b"all we have"

    run(body)


def test_a_reset_is_no_end() -> None:
    caught: list[BaseException] = []

    async def handle(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(5) == b"12345"
            writer.write(b"read")
            await reader.read()
        except ConnectionError as error:
            caught.append(error)

    def talk(sock: socket.socket) -> None:
        sock.sendall(b"12345")
        assert sock.recv(4) == b"read"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def body() -> None:
        with receiver() as ifq:
            async with serving(handle, ifq) as port:
                await client(port, talk)

    run(body)
    assert len(caught) == 1
    assert isinstance(caught[0], errors.PeerReset)


def test_the_peer_sees_the_end_of_a_connection_that_we_close() -> None:
    async def handle(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        assert reader.at_eof()

    def talk(sock: socket.socket) -> bytes:
        sock.sendall(b"x")
        return received(sock)  # times out if no FIN comes

    async def body() -> None:
        with receiver() as ifq:
            async with serving(handle, ifq) as port:
                assert await client(port, talk) == b""

    run(body)


def test_a_ring_that_is_closed_under_its_connections() -> None:
    seen: list[BaseException] = []

    async def handle(reader: aio.StreamReader, _writer: aio.StreamWriter) -> None:
        try:
            await reader.readexactly(2)
        except pyzcrx.ClosedError as error:
            seen.append(error)

    def talk(sock: socket.socket) -> bytes:
        sock.sendall(b"x")
        return received(sock)

    async def body() -> None:
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(AREA) as area:
            ifq = register(ring, area)
            async with serving(handle, ifq) as port:
                talking = asyncio.ensure_future(client(port, talk))
                while ifq.total_bytes < 1:
                    await asyncio.sleep(0.01)
                ring.close()
                assert await talking == b""

    run(body)
    assert len(seen) == 1


# -- readers that do not read, cancellation, many -------------------------------------------


def test_a_reader_that_does_not_read_stops_its_peer() -> None:
    data = os.urandom(24 * MIB)
    go_on = asyncio.Event()
    hashed: list[bytes] = []

    async def handle(reader: aio.StreamReader, _writer: aio.StreamWriter) -> None:
        digest = hashlib.sha256(await reader.readexactly(1))
        await go_on.wait()
        async for chunk in reader:
            with chunk:
                for view in chunk.views():
                    digest.update(view)
        hashed.append(digest.digest())

    async def body() -> None:
        with receiver() as ifq:
            async with serving(handle, ifq) as port:
                talking = asyncio.ensure_future(client(port, exchanged(data)))
                seen = -1
                while not 0 < ifq.total_bytes == seen:  # nothing more comes
                    seen = ifq.total_bytes
                    await asyncio.sleep(PATIENCE_S / 10)
                assert seen <= AREA // 8
                assert ifq.stats().held_buffers * ifq.rx_buf_len <= AREA // 4
                go_on.set()
                await talking
            assert ifq.stats().alloc_failures == 0

    run(body)
    assert hashed == [hashlib.sha256(data).digest()]


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_at_every_await(late: bool) -> None:
    """Of each call, at one await after the other; tests/unit/test_cancellation.py has them all."""
    data = random.Random(1).randbytes(200_000)
    got = bytearray()
    struck = 0

    async def handle(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        nonlocal struck
        calls = 0
        while len(got) < len(data):
            n = min(5000, len(data) - len(got))
            cancel = Cancel(1 + calls % 3, late=late)
            calls += 1
            if calls % 2:
                got.extend(await cancel.again(lambda n=n: reader.readexactly(n)))  # type: ignore[misc]
            else:
                with await cancel.again(reader.__anext__) as chunk:
                    got.extend(bytes(chunk))
            struck += cancel.left <= 0
        writer.write(b"all")

    def talk(sock: socket.socket) -> bytes:
        thread = threading.Thread(target=lambda: drip(sock))
        thread.start()
        back = received(sock)
        thread.join(START_S)
        return back

    def drip(sock: socket.socket) -> None:
        for at in range(0, len(data), 7000):
            sock.sendall(data[at : at + 7000])
            time.sleep(0.002)  # so that the reader has to wait, mostly
        sock.shutdown(socket.SHUT_WR)

    async def body() -> None:
        with receiver() as ifq:
            async with serving(handle, ifq) as port:
                assert await client(port, talk) == b"all"

    run(body)
    assert got == data
    assert struck


@pytest.mark.parametrize("count", [1, 64])
def test_many_connections(count: int) -> None:
    datas = [random.Random(n).randbytes(60_000 + n) for n in range(count)]

    async def body() -> None:
        with receiver() as ifq:
            async with serving(echo_chunks, ifq, backlog=count) as port:
                backs = await asyncio.gather(*(client(port, exchanged(data)) for data in datas))
            assert backs == datas

    run(body)


def test_a_thousand_connections() -> None:
    datas = [b"%d" % i * 10 for i in range(1000)]

    def talk(port: int) -> list[bytes]:
        with ExitStack() as stack:
            socks = [stack.enter_context(connect(port)) for _ in datas]
            for sock, data in zip(socks, datas, strict=True):
                sock.sendall(data)
            for sock in socks:
                sock.shutdown(socket.SHUT_WR)
            return [received(sock) for sock in socks]

    async def body() -> None:
        with receiver() as ifq:
            async with serving(echo_chunks, ifq, backlog=len(datas)) as port:
                assert await asyncio.to_thread(talk, port) == datas

    run(body, patience_s=START_S * 5)


def test_clients_too() -> None:
    if CARD.zero_copy:
        pytest.skip("expected: the flow of a connection that we make must be prepared before")
    data = os.urandom(2 * MIB)

    async def body() -> None:
        with receiver() as ifq:
            async with serving(echo_chunks, ifq) as port:
                reader, writer = await aio.open_connection(CARD.server, port, ifq=ifq)
                writer.write(data)
                writer.write_eof()
                assert await reader.readexactly(len(data)) == data
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
            with pytest.raises(OSError, match="Connect call failed"):
                await aio.open_connection(CARD.server, port, ifq=ifq)

    run(body)

"""Programs that use asyncio in unusual ways, unmodified, on a loop that receives by zcrx."""

from __future__ import annotations

import array
import asyncio
import importlib
import os
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import pytest

from pyzcrx.aio import EventLoop
from tests.guest.card import CARD, connect
from tests.guest.loop import in_thread, run
from tests.patience import PATIENCE_S

MIB = 1 << 20

pytestmark = [
    pytest.mark.usefixtures("nothing_of_a_loop_leaks"),
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
]


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, with the certificate of CPython's own tests, and a client's."""
    utils: Any = importlib.import_module("test.test_asyncio.utils")
    return utils.simple_server_sslcontext(), utils.simple_client_sslcontext()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(MIB):
        writer.write(data)
        await writer.drain()
    writer.close()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def exchange(peer: socket.socket, data: bytes, *, unwrap: bool = False) -> bytes:
    """Send all, then read as much: *data* fits into the buffers between."""
    peer.settimeout(PATIENCE_S)
    peer.sendall(data)
    answer = bytearray()
    while len(answer) < len(data):
        answer += peer.recv(MIB)
    if unwrap:
        assert isinstance(peer, ssl.SSLSocket)
        peer.unwrap().close()
    peer.close()
    return bytes(answer)


def test_tls_that_its_peer_ends_by_a_close_notify() -> None:
    data = os.urandom(100_000)

    async def main(loop: EventLoop) -> None:
        ours, theirs = contexts()
        ended: asyncio.Future[bytes] = loop.create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received = await reader.readexactly(len(data))
            writer.write(received)
            await writer.drain()
            ended.set_result(await reader.read())
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(handle, CARD.server, 0, ssl=ours)

        def talk() -> bytes:
            peer = theirs.wrap_socket(connect(port_of(server)), server_hostname="localhost")
            return exchange(peer, data, unwrap=True)

        assert await in_thread(loop, talk) == data
        assert await ended == b""
        server.close()

    run(main)


def test_a_connection_that_becomes_tls() -> None:
    data = os.urandom(100_000)

    async def main(loop: EventLoop) -> None:
        ours, theirs = contexts()
        done: asyncio.Future[None] = loop.create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(ours)
            await echo(reader, writer)
            done.set_result(None)

        server = await asyncio.start_server(handle, CARD.server, 0)

        def talk() -> bytes:
            plain = connect(port_of(server))
            plain.sendall(b"STARTTLS\n")
            assert plain.recv(3) == b"go\n"
            peer = theirs.wrap_socket(plain, server_hostname="localhost")
            return exchange(peer, data)

        assert await in_thread(loop, talk) == data
        await done
        server.close()

    run(main)


def test_sockets_of_the_program_itself() -> None:
    """Read by sock_recv_into(), so none of the ifq's, and sent as memoryviews."""
    numbers = array.array("I", range(300_000))

    async def main(loop: EventLoop) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
            listener.setblocking(False)
            ours.setblocking(False)
            accepted = asyncio.ensure_future(loop.sock_accept(listener))
            await loop.sock_connect(ours, listener.getsockname())
            theirs, _ = await accepted
            with theirs:
                received = array.array("I", bytes(memoryview(numbers).nbytes))
                view = memoryview(received).cast("B")
                send = asyncio.ensure_future(loop.sock_sendall(ours, memoryview(numbers).cast("B")))
                while view:
                    view = view[await loop.sock_recv_into(theirs, view) :]
                await send
        assert received == numbers

    if CARD.zero_copy:
        pytest.skip("expected: plain receives of local connections, no NIC in them")
    run(main)


def test_reads_that_run_into_their_time_limit_lose_nothing() -> None:
    pieces = [b"%d" % (i % 10) * 3000 for i in range(60)]

    async def main(loop: EventLoop) -> None:
        result: asyncio.Future[bytes] = loop.create_future()
        met = threading.Semaphore(0)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received = bytearray()
            while not reader.at_eof():
                try:
                    async with asyncio.timeout(0.001):
                        received += await reader.read(5000)
                except TimeoutError:
                    met.release()
            writer.close()
            result.set_result(bytes(received))

        server = await asyncio.start_server(handle, CARD.server, 0)

        def talk() -> None:
            with connect(port_of(server)) as peer:
                for i, piece in enumerate(pieces):
                    peer.sendall(piece)
                    if i % 20 == 0:
                        assert met.acquire(timeout=PATIENCE_S)

        await in_thread(loop, talk)
        assert await result == b"".join(pieces)
        server.close()

    run(main)


def test_a_task_group_that_fails_cancels_its_readers() -> None:
    async def main(loop: EventLoop) -> None:
        made: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        server = await asyncio.start_server(lambda *pair: made.append(pair), CARD.server, 0)
        port = port_of(server)
        peers = await in_thread(loop, lambda: [connect(port) for _ in range(5)])
        while len(made) < 5:
            await asyncio.sleep(0.001)

        async def fail() -> None:
            await made[0][0].readexactly(3)
            raise LookupError("stop")

        async def gather() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                for reader, _ in made[1:]:
                    group.create_task(reader.readexactly(10 * MIB))

        for peer in peers[1:]:
            await in_thread(loop, peer.sendall, b"partly")
        gathering = asyncio.ensure_future(gather())
        await asyncio.sleep(0)
        await in_thread(loop, peers[0].sendall, b"now")
        with pytest.raises(ExceptionGroup) as raised:
            await gathering
        assert [type(error) for error in raised.value.exceptions] == [LookupError]
        for (reader, writer), peer in zip(made[1:], peers[1:], strict=True):
            assert await reader.readexactly(6) == b"partly"  # they are of use still
            await in_thread(loop, peer.sendall, b" more")
            assert await reader.readexactly(5) == b" more"
            writer.close()
        made[0][1].close()
        for peer in peers:
            peer.close()
        server.close()

    run(main)


def test_pipes_that_are_watched_by_hand() -> None:
    async def main(loop: EventLoop) -> None:
        read, write = os.pipe()
        seen: asyncio.Queue[bytes] = asyncio.Queue()

        def readable() -> None:
            loop.remove_reader(read)  # and watched again: each time a new poll
            seen.put_nowait(os.read(read, 3))
            loop.add_reader(read, readable)

        loop.add_reader(read, readable)
        os.write(write, b"onetwo")
        assert [await seen.get(), await seen.get()] == [b"one", b"two"]
        writable = asyncio.Event()
        loop.add_writer(write, writable.set)
        await writable.wait()
        assert loop.remove_writer(write)
        assert loop.remove_reader(read)
        assert not loop.remove_reader(read)
        os.write(write, b"late")
        for _ in range(3):
            await asyncio.sleep(0)
        assert seen.empty()
        loop.add_reader(read, readable)
        assert await seen.get() == b"lat"
        loop.remove_reader(read)
        os.close(read)
        os.close(write)

    run(main)


def test_a_server_that_is_made_again_and_again() -> None:
    async def main(loop: EventLoop) -> None:
        port = 0
        for i in range(20):
            server = await asyncio.start_server(echo, CARD.server, port)
            port = port_of(server)
            data = b"%d" % i * 1000
            assert await in_thread(loop, lambda: exchange(connect(port), data)) == data  # noqa: B023
            server.close()
            await server.wait_closed()

    run(main)


def test_a_socket_that_was_accepted_elsewhere_and_has_bytes() -> None:
    async def main(loop: EventLoop) -> None:
        with socket.create_server((CARD.server, 0)) as listener:
            peer = await in_thread(loop, lambda: connect(listener.getsockname()[1]))
            sock, _ = listener.accept()
        with peer:
            peer.sendall(b"before")
            reader = asyncio.StreamReader()
            sock.setblocking(False)
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), sock
            )
            assert await reader.readexactly(6) == b"before"
            peer.sendall(b"after")
            assert await reader.readexactly(5) == b"after"
            transport.close()

    run(main)

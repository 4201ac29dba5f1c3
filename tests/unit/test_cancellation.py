"""A task that is cancelled, at every await: no byte is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pyzcrx import aio
from pyzcrx._kernel.memory import PAGE
from pyzcrx.aio import EventLoop
from pyzcrx.aio.connection import Connection
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.cancellation import Cancel
from tests.unit.test_aio import reading
from tests.unit.test_aio import run as on_asyncio
from tests.unit.test_aio_loop import kernel, run

__all__ = ["kernel"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
    pytest.mark.parametrize("late", [False, True]),
]

SENT = b"12345678line\nuntil;" + b"x" * (3 * PAGE) + b"rest"
SEGMENTS = [SENT[:3], SENT[3:10], SENT[10:14], SENT[14:5000], SENT[5000:-1], SENT[-1:]]


def everywhere(attempt: Callable[[Cancel], None], late: bool, least: int) -> None:
    """*attempt* with a Cancel for every await that it has; these are *least* or more."""
    nth = 0
    while True:
        nth += 1
        cancel = Cancel(nth, late=late)
        attempt(cancel)
        if cancel.left > 0:
            break
    assert nth > least


async def arriving(sock: ModelSocket) -> None:
    for segment in SEGMENTS:
        for _ in range(6):  # each comes to a reader that waits
            await asyncio.sleep(0)
        sock.send(segment)
    await asyncio.sleep(0)
    sock.finish()


async def read_all(reader: Any, cancel: Cancel) -> bytes:
    """By all the methods that both asyncio's readers and ours have."""
    received = bytearray()
    received += await cancel.again(lambda: reader.readexactly(8))
    received += await cancel.again(reader.readline)
    received += await cancel.again(lambda: reader.readuntil(b";"))
    received += await cancel.again(lambda: reader.read(10))
    # asyncio's own read() to the end loses what it has when it is cancelled; ours does not.
    keeps = isinstance(reader, aio.StreamReader)
    while len(received) < len(SENT) - (1 if keeps else 0):
        received += await cancel.again(lambda: reader.read(4000))
    received += await cancel.again(reader.read if keeps else lambda: reader.read(1))
    return bytes(received)


async def read_chunks(reader: aio.StreamReader, cancel: Cancel) -> bytes:
    received = bytearray()
    while True:
        memory = bytearray(100)
        n = await cancel.again(lambda into=memory: reader.readinto(into))  # type: ignore[misc]
        received += memory[:n]
        try:
            chunk = await cancel.again(lambda: reader.__anext__())
        except StopAsyncIteration:
            return bytes(received)
        with chunk:
            received += bytes(chunk)


@pytest.mark.parametrize("read", [read_all, read_chunks])
def test_streams_of_ours(
    late: bool, read: Callable[[aio.StreamReader, Cancel], Awaitable[bytes]]
) -> None:
    def attempt(cancel: Cancel) -> None:
        async def body() -> None:
            async with reading() as (reader, sock):
                peer = asyncio.ensure_future(arriving(sock))
                assert await read(reader, cancel) == SENT, cancel.left
                await peer

        on_asyncio(body)

    everywhere(attempt, late, 5)


def nonblocking(peer: ModelSocket) -> socket.socket:
    sock = socket.socket(fileno=os.dup(peer.fileno()))
    sock.setblocking(False)
    return sock


def test_an_unmodified_program_on_the_loop(kernel: ModelKernel, late: bool) -> None:
    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            peer = kernel.socket()
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport = loop._make_socket_transport(nonblocking(peer), protocol)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            sending = asyncio.ensure_future(arriving(peer))
            assert await read_all(reader, cancel) == SENT
            await sending
            writer.close()
            await writer.wait_closed()

        run(main)

    everywhere(attempt, late, 5)


@pytest.mark.parametrize("read", [read_all, read_chunks])
def test_streams_of_ours_on_the_loop(
    kernel: ModelKernel, late: bool, read: Callable[[aio.StreamReader, Cancel], Awaitable[bytes]]
) -> None:
    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            peer = kernel.socket()
            connection = Connection(aio.attach(loop.ring), loop.ifq, None, 1 << 16, None)
            loop._make_socket_transport(nonblocking(peer), connection)
            await asyncio.sleep(0)
            reader, writer = connection.streams()
            sending = asyncio.ensure_future(arriving(peer))
            assert await read(reader, cancel) == SENT
            await sending
            writer.close()
            await cancel.again(writer.wait_closed)

        run(main)

    everywhere(attempt, late, 5)


def test_drains_of_several_tasks(kernel: ModelKernel, late: bool) -> None:
    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            connection = Connection(aio.attach(loop.ring), loop.ifq, None, 1 << 16, None)
            loop._make_socket_transport(nonblocking(kernel.socket()), connection)
            await asyncio.sleep(0)
            _, writer = connection.streams()
            connection.pause_writing()
            others = [asyncio.ensure_future(writer.drain()) for _ in range(2)]
            loop.call_later(0.001, connection.resume_writing)
            await cancel.again(writer.drain)
            await asyncio.gather(*others)
            assert not connection._drainers
            writer.close()
            await writer.wait_closed()

        run(main)

    everywhere(attempt, late, 1)


# -- the loop's own methods, on real sockets polled by the kernel in memory -----------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        pair = socket.socketpair()
        for sock in pair:
            stack.enter_context(sock).setblocking(False)
        yield pair


async def send_later(sock: socket.socket, *parts: bytes) -> None:
    for part in parts:
        for _ in range(4):
            await asyncio.sleep(0)
        sock.send(part)


async def by_recv(loop: EventLoop, sock: socket.socket) -> bytes:
    return await loop.sock_recv(sock, 7)


async def by_recv_into(loop: EventLoop, sock: socket.socket) -> bytes:
    memory = bytearray(7)
    return bytes(memory[: await loop.sock_recv_into(sock, memory)])


async def by_recvfrom(loop: EventLoop, sock: socket.socket) -> bytes:
    return (await loop.sock_recvfrom(sock, 7))[0]


async def by_recvfrom_into(loop: EventLoop, sock: socket.socket) -> bytes:
    memory = bytearray(7)
    return bytes(memory[: (await loop.sock_recvfrom_into(sock, memory))[0]])


@pytest.mark.parametrize("receive", [by_recv, by_recv_into, by_recvfrom, by_recvfrom_into])
@pytest.mark.usefixtures("kernel")
def test_what_a_socket_receives(
    late: bool,
    pair: tuple[socket.socket, socket.socket],
    receive: Callable[[EventLoop, socket.socket], Any],
) -> None:
    ours, peer = pair

    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            parts = (b"abc", b"defghijklmn", b"o")
            sending = asyncio.ensure_future(send_later(peer, *parts))
            received = b""
            while len(received) < len(b"".join(parts)):
                received += await cancel.again(lambda: receive(loop, ours))
            await sending
            assert received == b"".join(parts)
            assert nothing_polled(loop, ours)

        run(main)

    everywhere(attempt, late, 2)


def nothing_polled(loop: EventLoop, sock: socket.socket) -> bool:
    assert not loop.remove_reader(sock)
    assert not loop.remove_writer(sock)
    return True


@pytest.mark.usefixtures("kernel")
def test_what_a_socket_sends(late: bool, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = bytes(range(256)) * 200

    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            received = bytearray()

            async def drain() -> None:
                while not received.endswith(b"end"):
                    received.extend(await loop.sock_recv(peer, 3000))

            draining = asyncio.ensure_future(drain())
            try:
                await cancel.run(loop.sock_sendall(ours, data))
                cut = False
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
                cut = True
            assert nothing_polled(loop, ours)
            await loop.sock_sendall(ours, b"end")
            await draining
            sent = bytes(received[:-3])
            assert data.startswith(sent) if cut else sent == data

        run(main)

    everywhere(attempt, late, 1)


@pytest.mark.usefixtures("kernel")
def test_a_connection_that_is_accepted(late: bool) -> None:
    def attempt(cancel: Cancel) -> None:
        async def main(loop: EventLoop) -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
                listener.setblocking(False)
                client.setblocking(False)
                address = listener.getsockname()
                connecting = asyncio.ensure_future(cancel_connect(loop, client, address))
                sock, _ = await cancel.again(lambda: loop.sock_accept(listener))
                await connecting
                with sock:
                    await loop.sock_sendall(sock, b"hello")
                    assert await loop.sock_recv(client, 5) == b"hello"
                assert nothing_polled(loop, listener)

        async def cancel_connect(loop: EventLoop, client: socket.socket, address: Any) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            await loop.sock_connect(client, address)

        run(main)

    everywhere(attempt, late, 1)

"""Clients whose short segments overfill a server's receive buffer before they read anything.

What does not fit is dropped, and the window closes (ICSK_ACK_NOMEM, 6.6). What the client sends
then begins before segments that the server has seen, so no news of the client's window counts
(``net/ipv4/tcp_input.c:tcp_may_update_window()``) before the server reads on: one that waits
until it can send waits for ever.
"""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyzcrx import aio
from pyzcrx.aio import EventLoop
from tests.guest.card import CARD, connect
from tests.guest.echo import Echo
from tests.guest.loop import in_thread, run
from tests.guest.test_relay import Relay, upstream
from tests.patience import PATIENCE_S, START_S

MIB = 1 << 20
KIB = 1 << 10
PIECES = (200, 700, 1400)


pytestmark = pytest.mark.usefixtures("nothing_of_a_loop_leaks")


def stuff(sock: socket.socket, data: bytes, piece_bytes: int) -> int:
    """Send *data* in segments of their own until nothing more is taken; gives how much was."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(1)
    sent = 0
    try:
        while sent < len(data):
            sent += sock.send(data[sent : sent + piece_bytes])
    except TimeoutError:
        pass
    sock.settimeout(PATIENCE_S)
    return sent


def receive(sock: socket.socket, size_bytes: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    back = bytearray()
    while len(back) < size_bytes and (chunk := sock.recv(1 << 16)):
        back += chunk
    return bytes(back)


def both_ways(sock: socket.socket, data: bytes) -> None:
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(sock.sendall, data)
        assert receive(sock, len(data)) == data
        sending.result()


def reads_late(sock: socket.socket, piece_bytes: int) -> None:
    """All comes back to who first fills every buffer on the way, as far as his bytes last."""
    sock.settimeout(PATIENCE_S)
    data = os.urandom(64 * MIB)
    # In long segments first, by which the server's kernel learns what memory a byte takes.
    both_ways(sock, data[: 8 * MIB])
    sent = stuff(sock, data, piece_bytes)
    more = data[sent : sent + 64 * KIB]
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(sock.sendall, more)
        assert receive(sock, sent + len(more)) == data[: sent + len(more)]
        sending.result()


@pytest.mark.parametrize("piece_bytes", PIECES)
def test_the_echo_server(piece_bytes: int) -> None:
    with Echo() as server, server.connect() as sock:
        reads_late(sock, piece_bytes)


@pytest.mark.parametrize("piece_bytes", PIECES)
def test_the_relay(piece_bytes: int) -> None:
    with upstream() as server, Relay(server.port) as relay, relay.connect() as sock:
        reads_late(sock, piece_bytes)


async def by_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def by_chunks(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
    async for chunk in reader:
        writer.write(chunk)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("piece_bytes", PIECES)
@pytest.mark.parametrize("way", ["streams", "chunks"])
def test_an_echo_on_the_event_loop(way: str, piece_bytes: int) -> None:
    async def main(loop: EventLoop) -> None:
        server: asyncio.Server
        if way == "streams":
            server = await asyncio.start_server(by_streams, CARD.server, 0)
        else:
            server = await aio.start_server(by_chunks, CARD.server, 0, ifq=loop.ifq)
        port = server.sockets[0].getsockname()[1]
        sock = await in_thread(loop, connect, port)
        with sock:
            await in_thread(loop, reads_late, sock, piece_bytes)
        server.close()

    run(main, patience_s=START_S * 5)

"""Servers that send on without a copy, and end with bytes in flight: each of them, each way.

The peer gets the right bytes, as far as it gets any, and the area can be used again at once.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

import pyzcrx
from pyzcrx import aio
from pyzcrx.types import SendStats
from tests.guest.card import Sim, connect, register
from tests.guest.echo import Echo
from tests.guest.test_relay import Relay, outcome, reset, upstream
from tests.leaks import nothing_leaks
from tests.patience import START_S

MIB = 1 << 20
NARROW_BYTES = 1 << 16

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


AIO_ECHO = """
import asyncio, sys
import pyzcrx
from pyzcrx import aio

async def echo(reader, writer):
    writer.zero_copy = True
    async for chunk in reader:
        writer.write(chunk)
        await writer.drain()

async def main():
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 << 20) as area:
        ifq = ring.register_ifq(area, interface="zcrx0", rx_queue=1, timeout=60)
        server = await aio.start_server(echo, "192.0.2.1", 0, ifq=ifq)
        port = server.sockets[0].getsockname()[1]
        print("listening on 192.0.2.1 port", port, file=sys.stderr, flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


class Child(subprocess.Popen[str]):
    def __init__(self, *argv: str) -> None:
        super().__init__(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def close(self) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


class AioEcho(Echo):
    """The same by streams of pyzcrx.aio; takes no notice of options."""

    command = (sys.executable, "-W", "ignore", "-c", AIO_ECHO)

    def __init__(self, *options: str) -> None:
        super().__init__(*options, start=Child)


def filled(sock: socket.socket, data: bytes) -> int:
    """As much of *data* as goes into *sock* within a while; gives how much."""
    sock.setblocking(False)
    sent = 0
    while sent < len(data) and select.select([], [sock], [], 1)[1]:
        sent += sock.send(data[sent : sent + (1 << 16)])
    sock.setblocking(True)
    return sent


def narrow(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)


def arrived(sock: socket.socket) -> bool:
    """Whether something does: the server can be slower than who fills it."""
    return bool(select.select([sock], [], [], START_S)[0])


def killed(server: Echo, sim: Sim) -> None:
    """*server* is gone, and its queue bound by another, whose area has other bytes."""
    server.kill()
    server.process.close()
    sim.queue_free()
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
        register(ring, area)
        area.view[:] = b"\xee" * len(area.view)


@pytest.mark.parametrize("kind", [Echo, AioEcho])
def test_an_echo_killed_with_bytes_in_flight_sent_the_right_ones(
    sim: Sim, kind: type[Echo]
) -> None:
    data = os.urandom(MIB)
    server = kind("--zero-copy", "always", "--area", "8M")
    with server.connect() as sock:
        narrow(sock)
        filled(sock, data)
        assert arrived(sock)
        killed(server, sim)
        got, _ = outcome(sock)
    assert got
    assert data.startswith(got)


def test_a_relay_killed_with_bytes_in_flight_sent_the_right_ones(sim: Sim) -> None:
    data = os.urandom(MIB)
    came, go = threading.Event(), threading.Event()
    ends: list[bytes] = []
    done = threading.Event()

    def serve(sock: socket.socket) -> None:
        narrow(sock)
        if arrived(sock):
            came.set()
        go.wait(START_S)
        ends.append(outcome(sock)[0])
        done.set()

    with upstream(serve) as there:
        server = Relay(there.port, "--zero-copy", "always", "--area", "8M")
        with server.connect() as sock:
            filled(sock, data)
            assert came.wait(START_S)
            killed(server, sim)
            go.set()
            assert done.wait(START_S)
    [got] = ends
    assert got
    assert data.startswith(got)


# -- writers of pyzcrx.aio ------------------------------------------------------------------


def ring_closes(ring: pyzcrx.Ring, _sock: socket.socket) -> None:
    ring.close()


def peer_resets(_ring: pyzcrx.Ring, sock: socket.socket) -> None:
    reset(sock)


def peer_reads(_ring: pyzcrx.Ring, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


@contextmanager
def receiver(area: pyzcrx.Area) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    with pyzcrx.Ring() as ring:
        ifq = register(ring, area)
        yield ring, ifq
        if not ring.closed:
            ifq.audit()
            assert ifq._core.account.leased == 0


@pytest.mark.parametrize("end", [ring_closes, peer_resets, peer_reads])
def test_a_writer_of_a_peer_that_did_not_read_so_far(
    end: Callable[[pyzcrx.Ring, socket.socket], None],
) -> None:
    data = os.urandom(2 * MIB)
    failures: list[Exception] = []

    async def echo(reader: aio.StreamReader, writer: aio.StreamWriter) -> None:
        writer.zero_copy = True
        try:
            async for chunk in reader:
                writer.write(chunk)
                await writer.drain()
        except (OSError, pyzcrx.ZcrxError) as error:
            failures.append(error)
        finally:
            writer.close()
            with suppress(OSError, pyzcrx.ZcrxError):
                await writer.wait_closed()
            over.set()

    over = asyncio.Event()

    async def body(area: pyzcrx.Area) -> tuple[bytes, SendStats]:
        nonlocal data
        with receiver(area) as (ring, ifq):
            async with await aio.start_server(echo, Sim.server, 0, ifq=ifq) as server:
                sock = connect(server.sockets[0].getsockname()[1])
                with sock:
                    narrow(sock)
                    data = data[: await asyncio.to_thread(filled, sock, data)]
                    assert await asyncio.to_thread(arrived, sock)
                    assert ring.send_stats().unnotified_bytes > 0
                    end(ring, sock)
                    got = b""
                    if end is not peer_resets:
                        got, _ = await asyncio.to_thread(outcome, sock)
                await over.wait()
                while not ring.closed and ring.send_stats().unnotified_bytes:
                    await asyncio.sleep(0.01)
            return got, ring.send_stats()

    with pyzcrx.Area.anonymous(8 * MIB) as area:
        got, stats = asyncio.run(asyncio.wait_for(body(area), START_S))
        assert (stats.unnotified_bytes, stats.abandoned_bytes) == (0, 0)
        with pyzcrx.Ring() as again:
            register(again, area)
            area.view[:] = b"\xee" * len(area.view)
    assert data.startswith(got)
    assert (got == data) == (end is peer_reads)
    assert bool(failures) == (end is not peer_reads)

"""asyncio programs on a loop that receives by zcrx: all forms of protocol, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from pyzcrx.aio import EventLoop, LeaseProtocol, loop_factory
from pyzcrx.types import Chunk
from tests.guest.card import CARD, Sim, connect
from tests.guest.echo import send_all
from tests.guest.loop import AREA, in_thread, run
from tests.patience import PATIENCE_S, START_S

MIB = 1 << 20

pytestmark = [
    pytest.mark.usefixtures("nothing_of_a_loop_leaks"),
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
]


class Recorder:
    """What a protocol was told."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.nbytes = 0
        self.said: list[str] = []
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.set_result(None)

    def took(self, data: Any) -> None:
        self.digest.update(data)
        self.nbytes += len(data)

    def eof_received(self) -> bool:
        self.said.append("eof")
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class Plain(Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.took(data)


class Buffered(Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        assert sizehint == -1
        self.memory = bytearray(10_000)
        return self.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.took(self.memory[:nbytes])


class Lease(Recorder, LeaseProtocol):
    def chunk_received(self, chunk: Chunk) -> None:
        with chunk:
            for view in chunk.views():
                self.took(view)


async def serve(
    loop: EventLoop, make: Callable[[], Any], n: int = 1
) -> tuple[list[Any], list[socket.socket]]:
    """*n* connections: our protocols, the peers' sockets."""
    made: list[Any] = []

    def factory() -> Any:
        made.append(make())
        return made[-1]

    server = await loop.create_server(factory, CARD.server, 0, backlog=n)
    port = server.sockets[0].getsockname()[1]
    peers = await in_thread(loop, lambda: [connect(port) for _ in range(n)])
    while len(made) < n:
        await asyncio.sleep(0.001)
    for protocol in made:
        await protocol.made
    server.close()
    return made, peers


@pytest.mark.parametrize("form", [Plain, Buffered, Lease])
def test_each_form_of_protocol(form: Callable[[], Any]) -> None:
    data = os.urandom(8 * MIB)

    async def main(loop: EventLoop) -> None:
        (protocol,), (peer,) = await serve(loop, form)
        with peer:
            await in_thread(loop, send_all, peer, data)
            assert await protocol.lost is None
        assert protocol.said == ["eof"]
        assert protocol.digest.digest() == hashlib.sha256(data).digest()
        statistics = protocol.transport.statistics
        copied = statistics["gathered_bytes"] + statistics["spilled_bytes"]
        if form is Lease:
            assert statistics["viewed_bytes"] == len(data)
        else:
            assert copied >= len(data)
        assert CARD.copied(loop.ifq.stats().as_dict())

    run(main)


def test_an_unmodified_program_of_streams() -> None:
    data = os.urandom(4 * MIB)
    back = bytearray()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        writer.close()
        await writer.wait_closed()

    def talk(port: int) -> None:
        with connect(port) as sock:
            sender = threading.Thread(target=send_all, args=(sock, data))
            sender.start()
            while part := sock.recv(1 << 16):
                back.extend(part)
            sender.join()

    async def main(loop: EventLoop) -> None:
        server = await asyncio.start_server(echo, CARD.server, 0)
        async with server:
            await in_thread(loop, talk, server.sockets[0].getsockname()[1])
        assert loop.ifq.total_bytes == len(data)

    run(main)
    assert back == data


@pytest.mark.parametrize("n", [1, 64, 1000])
def test_many_connections(n: int) -> None:
    async def main(loop: EventLoop) -> None:
        protocols, peers = await serve(loop, Plain, n)
        with ExitStack() as stack:
            for i, peer in enumerate(peers):
                stack.enter_context(peer)
                peer.sendall(b"%d" % i * 10)
            for peer in peers:
                peer.shutdown(socket.SHUT_WR)
            await asyncio.gather(*(protocol.lost for protocol in protocols))
        found = sorted(protocol.digest.digest() for protocol in protocols)
        assert found == sorted(hashlib.sha256(b"%d" % i * 10).digest() for i in range(n))

    run(main, patience_s=START_S * 5)


def test_a_protocol_that_pauses_stops_its_peer() -> None:
    data = os.urandom(16 * MIB)

    async def main(loop: EventLoop) -> None:
        (protocol,), (peer,) = await serve(loop, Plain)
        with peer:
            sending = in_thread(loop, send_all, peer, data)
            while not protocol.nbytes:
                await asyncio.sleep(0.001)
            protocol.transport.pause_reading()
            seen, held = protocol.nbytes, -1
            while held != loop.ifq.total_bytes:
                held = loop.ifq.total_bytes
                await asyncio.sleep(0.3)
            assert protocol.nbytes == seen
            assert held - seen <= AREA // 16 + loop.ifq.rx_buf_len
            assert loop.ifq._core.account.leased * loop.ifq.rx_buf_len <= AREA // 4
            protocol.transport.resume_reading()
            await sending
            assert await protocol.lost is None
        assert protocol.digest.digest() == hashlib.sha256(data).digest()

    run(main)


def test_half_close_both_ways() -> None:
    class Open(Plain):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main(loop: EventLoop) -> None:
        for ours_first in (False, True):
            (protocol,), (peer,) = await serve(loop, Open)
            with peer:
                if ours_first:
                    protocol.transport.write_eof()
                    assert await in_thread(loop, peer.recv, 1) == b""
                    assert not protocol.lost.done(), protocol.lost
                    await in_thread(loop, send_all, peer, b"after")
                else:
                    await in_thread(loop, send_all, peer, b"after")
                    while not protocol.said:
                        await asyncio.sleep(0.001)
                    protocol.transport.write(b"still")
                    assert await in_thread(loop, peer.recv, 5, socket.MSG_WAITALL) == b"still"
                while not protocol.said:
                    await asyncio.sleep(0.001)
                assert protocol.nbytes == len(b"after")
                protocol.transport.close()
                assert await protocol.lost is None

    run(main)


def test_a_reset() -> None:
    async def main(loop: EventLoop) -> None:
        (protocol,), (peer,) = await serve(loop, Plain)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert isinstance(await protocol.lost, ConnectionResetError)

    run(main)


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("flooded", [False, True])
def test_our_end_of_it(how: str, flooded: bool) -> None:
    def flood(peer: socket.socket) -> str:
        try:
            while flooded:
                peer.sendall(bytes(1 << 16))
            return "" if peer.recv(1) == b"" else "data"
        except ConnectionError as error:
            return type(error).__name__

    async def main(loop: EventLoop) -> None:
        (protocol,), (peer,) = await serve(loop, Plain)
        with peer:
            flooding = in_thread(loop, flood, peer)
            while flooded and not protocol.nbytes:
                await asyncio.sleep(0.001)
            getattr(protocol.transport, how)()
            seen = protocol.nbytes
            assert await protocol.lost is None
            assert protocol.nbytes == seen
            ended = await flooding
            assert ended in (("ConnectionResetError", "BrokenPipeError") if flooded else ("",))

    run(main)


def test_an_interrupted_callback_costs_other_connections_nothing() -> None:
    class Interrupted(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"stop":
                raise KeyboardInterrupt

    with asyncio.Runner(loop_factory=lambda: EventLoop(area_bytes=AREA, **CARD.register)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, EventLoop)

        async def begin() -> tuple[list[Any], list[socket.socket]]:
            return await serve(loop, Interrupted, 2)

        protocols, peers = runner.run(begin())
        peers[0].sendall(b"stop")
        peers[1].sendall(b"go on")
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(PATIENCE_S))
        for peer in peers:
            peer.close()
        loop.run_until_complete(asyncio.gather(*(protocol.lost for protocol in protocols)))
        assert sorted(protocol.nbytes for protocol in protocols) == [4, 5]


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_loop_closed_with_connections_open() -> None:
    async def main(loop: EventLoop) -> tuple[list[Any], list[socket.socket]]:
        protocols, peers = await serve(loop, Plain, 3)
        peers[0].sendall(bytes(100_000))
        while not any(protocol.nbytes for protocol in protocols):
            await asyncio.sleep(0.001)
        return protocols, peers

    protocols, peers = run(main)
    for protocol in protocols:
        protocol.transport._sock.close()
    for peer in peers:
        with peer:
            peer.settimeout(START_S)
            with suppress(ConnectionResetError):
                assert peer.recv(1) == b""


@pytest.mark.skipif(
    not isinstance(CARD, Sim), reason="expected: needs a NIC whose flows no rule of the tests takes"
)
def test_the_flows_of_its_servers_are_steered() -> None:
    data = os.urandom(2 * MIB)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        (protocol,), (peer,) = await serve(loop, Plain)
        with peer:
            await in_thread(loop, send_all, peer, data)
            assert await protocol.lost is None
        assert protocol.digest.digest() == hashlib.sha256(data).digest()
        return loop.ifq.total_bytes

    with asyncio.Runner(
        loop_factory=loop_factory(interface=Sim.interface, area_bytes=AREA)
    ) as runner:
        assert runner.run(main()) == len(data)

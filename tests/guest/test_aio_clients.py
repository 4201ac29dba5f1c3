"""Connections that a program makes over a NIC: a rule for each, and what happens without one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pyzcrx
from pyzcrx import aio, nic
from pyzcrx.errors import BadArgument
from tests.guest.card import CARD, Sim, run
from tests.guest.echo import send_all
from tests.guest.test_aio_loop import Plain
from tests.leaks import nothing_leaks
from tests.patience import START_S

MIB = 1 << 20
AREA = 32 * MIB
ELSEWHERE = "203.0.113.9"
"""An address of this machine that is not the NIC's."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
    pytest.mark.skipif(not isinstance(CARD, Sim), reason="expected: there is no NIC to steer"),
]


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    on_loop(lambda _: asyncio.sleep(0))
    before = rules()
    with nothing_leaks():
        yield
    assert rules() == before
    CARD.queue_free()


def rules() -> list[str]:
    return [rule.flow or "" for rule in nic.read(Sim.interface).rules or ()]


def on_loop(main: Callable[[aio.EventLoop], Coroutine[Any, Any, Any]]) -> Any:
    """*main* on a loop of the NIC's that nobody set up."""

    async def timed() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aio.EventLoop)
        async with asyncio.timeout(START_S):
            return await main(loop)

    make = aio.loop_factory(interface=Sim.interface, area_bytes=AREA)
    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(timed())


@contextmanager
def serving(address: str, data: bytes, n: int = 1) -> Iterator[int]:
    """A server that sends *data* at once, then a byte back for what it is sent; gives its port."""
    there = CARD.socket() if address == CARD.peer_address else socket.socket()
    with there as listener:
        listener.bind((address, 0))
        listener.listen(n)
        listener.settimeout(START_S)

        def serve() -> None:
            for _ in range(n):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(START_S)
                    send_all(sock, data)
                    while sock.recv(1 << 16):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(START_S)
        assert not thread.is_alive()


@contextmanager
def all_placed(nbytes: int) -> Iterator[None]:
    """The NIC puts *nbytes* of payload into the area, none anywhere else."""

    def books() -> dict[str, int]:
        assert isinstance(CARD, Sim)
        return {
            kind: sum(CARD.counter(f"rx{queue}_{kind}_bytes") for queue in range(queues))
            for kind in ("zc", "page", "linear")
        }

    queues = nic.read(Sim.interface).rx_queues
    before = books()
    yield
    grown = {kind: value - before[kind] for kind, value in books().items()}
    assert grown["zc"] >= nbytes  # some of it twice, where it was retransmitted
    assert grown["page"] == grown["linear"] == 0


def gone(flow: str) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        while any(flow in rule for rule in rules()):
            await asyncio.sleep(0.01)

    return wait


def test_an_unmodified_client() -> None:
    data = os.urandom(4 * MIB)

    async def main(loop: aio.EventLoop, port: int) -> None:
        reader, writer = await asyncio.open_connection(CARD.peer_address, port)
        (rule,) = rules()
        here = writer.get_extra_info("sockname")
        assert rule == f"tcp4 dst {here[0]}:{here[1]} src {CARD.peer_address}:{port}"
        assert await reader.read() == data
        assert writer.get_extra_info("zero_copy") is True
        assert loop.ifq.total_bytes == len(data)
        writer.close()
        await writer.wait_closed()
        await gone(f":{port}")()

    with all_placed(len(data)), serving(CARD.peer_address, data) as port:
        on_loop(lambda loop: main(loop, port))


def test_a_connection_that_the_program_made_itself() -> None:
    data = os.urandom(4 * MIB)

    async def main(loop: aio.EventLoop, port: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, (CARD.peer_address, port))
        assert rules() == []
        transport, protocol = await loop.create_connection(Plain, sock=sock)
        assert len(rules()) == 1
        assert await protocol.lost is None
        assert protocol.digest.digest() == hashlib.sha256(data).digest()
        assert transport.get_extra_info("zero_copy") is True
        assert 0 < loop.ifq.total_bytes <= len(data)
        await gone(f":{port}")()

    with serving(CARD.peer_address, data) as port:
        on_loop(lambda loop: main(loop, port))


def test_a_connection_that_leaves_by_another_interface() -> None:
    async def main(_: aio.EventLoop, port: int) -> None:
        with pytest.warns(aio.PlainReceiveWarning, match=f"{ELSEWHERE}, which is no address of"):
            reader, writer = await asyncio.open_connection(ELSEWHERE, port)
        assert await reader.read() == b"plain"
        assert not writer.get_extra_info("zero_copy")
        assert rules() == []
        writer.close()
        await writer.wait_closed()

    with elsewhere(), serving(ELSEWHERE, b"plain") as port:
        on_loop(lambda loop: main(loop, port))


@contextmanager
def elsewhere() -> Iterator[None]:
    run("ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo")
    try:
        yield
    finally:
        run("ip", "address", "del", f"{ELSEWHERE}/32", "dev", "lo")


def test_a_loop_that_was_given_its_queue_makes_no_rule() -> None:
    data = os.urandom(1 * MIB)

    async def main(port: int, plain: int) -> None:
        reader, writer = await asyncio.open_connection(CARD.peer_address, port)
        assert rules() == []
        assert await reader.read() == data
        assert writer.get_extra_info("zero_copy") is True
        writer.close()
        await writer.wait_closed()
        with pytest.warns(aio.PlainReceiveWarning, match="come by another NIC than"):
            reader, writer = await asyncio.open_connection(ELSEWHERE, plain)
        assert await reader.read() == b"plain"
        writer.close()
        await writer.wait_closed()

    make = aio.loop_factory(area_bytes=AREA, **CARD.register)
    with (
        elsewhere(),
        serving(ELSEWHERE, b"plain") as plain,
        serving(CARD.peer_address, data) as port,
        asyncio.Runner(loop_factory=make) as runner,
    ):
        runner.run(asyncio.wait_for(main(port, plain), START_S))


def test_a_connection_that_is_refused_leaves_no_rule() -> None:
    async def main(_: aio.EventLoop) -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(CARD.peer_address, 1)
        await gone(":1")()
        connecting = asyncio.ensure_future(asyncio.open_connection(CARD.peer_address, 1))
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    on_loop(main)


def test_a_server_that_comes_after_a_client() -> None:
    data = os.urandom(2 * MIB)

    async def main(loop: aio.EventLoop, port: int) -> None:
        _, writer = await asyncio.open_connection(CARD.peer_address, port)
        made: list[Plain] = []

        def factory() -> Plain:
            made.append(Plain())
            return made[-1]

        server = await loop.create_server(factory, CARD.server, 0)
        assert len(rules()) == 2

        def send() -> None:
            with CARD.socket() as sock:
                sock.settimeout(START_S)
                sock.connect((CARD.server, server.sockets[0].getsockname()[1]))
                send_all(sock, data)

        await loop.run_in_executor(None, send)
        while not made:
            await asyncio.sleep(0.01)
        assert await made[0].lost is None
        assert loop.ifq.total_bytes == len(data)
        server.close()
        writer.close()
        await writer.wait_closed()

    with all_placed(len(data)), serving(CARD.peer_address, b"") as port:
        on_loop(lambda loop: main(loop, port))


@contextmanager
def prepared() -> Iterator[tuple[pyzcrx.Ifq, nic.Setup]]:
    with (
        nic.prepare(Sim.interface) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(AREA) as area,
    ):
        yield ring.register_ifq(area, setup, timeout=START_S), setup


def test_streams_of_ours_on_asyncios_loop() -> None:
    data = os.urandom(4 * MIB)

    async def main(port: int) -> None:
        with prepared() as (ifq, setup):
            digest = hashlib.sha256()
            reader, writer = await aio.open_connection(CARD.peer_address, port, ifq=ifq, nic=setup)
            assert len(rules()) == 1
            async for chunk in reader:
                with chunk:
                    for view in chunk.views():
                        digest.update(view)
            assert reader.zero_copy is True
            writer.close()
            await writer.wait_closed()
            await gone(f":{port}")()
            assert digest.digest() == hashlib.sha256(data).digest()

    with all_placed(len(data)), serving(CARD.peer_address, data) as port:
        asyncio.run(asyncio.wait_for(main(port), START_S))


def test_streams_of_ours_fall_back_aloud() -> None:
    async def main(port: int) -> None:
        with prepared() as (ifq, setup):
            with pytest.warns(aio.PlainReceiveWarning, match="copied by the kernel"):
                reader, writer = await aio.open_connection(ELSEWHERE, port, ifq=ifq, nic=setup)
            assert await reader.read() == b"plain"
            assert reader.zero_copy is False
            writer.close()
            await writer.wait_closed()

    with elsewhere(), serving(ELSEWHERE, b"plain") as port:
        asyncio.run(asyncio.wait_for(main(port), START_S))


def test_arguments_that_do_not_go_together() -> None:
    async def main() -> None:
        with prepared() as (ifq, setup):
            for arguments in (
                {"nic": setup},
                {"nic": object(), "host": CARD.peer_address, "port": 1},
                {"nic": setup, "host": CARD.peer_address, "port": 1, "interleave": 1},
            ):
                with pytest.raises(BadArgument):
                    await aio.open_connection(ifq=ifq, **arguments)

    asyncio.run(main())

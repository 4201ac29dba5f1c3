"""Streams beside threads and other processes: executors that release, and a fork."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyzcrx import aio, errors
from pyzcrx.aio import EventLoop
from pyzcrx.types import Chunk
from tests.guest.card import CARD, connect
from tests.guest.echo import send_all
from tests.guest.loop import run

MIB = 1 << 20
WORKERS = 4

pytestmark = [
    pytest.mark.usefixtures("nothing_of_a_loop_leaks"),
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
]


async def served(
    loop: EventLoop,
    handle: Callable[[Any, Any], Awaitable[None]],
    talk: Callable[[socket.socket], Any],
) -> Any:
    """What *talk* gives, in a thread, connected to a server of *handle*."""
    over = loop.create_future()

    async def once(reader: Any, writer: Any) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()
            over.set_result(None)

    def connected(port: int) -> Any:
        with connect(port) as sock:
            return talk(sock)

    async with await aio.start_server(once, CARD.server, 0, ifq=loop.ifq) as server:
        said = await asyncio.to_thread(connected, server.sockets[0].getsockname()[1])
        await over
    loop.ifq.audit()
    assert loop.ifq.stats().held_buffers == 0
    return said


def answered(data: bytes) -> Callable[[socket.socket], bytes]:
    """Sends *data* and the end, and gives the answer."""

    def talk(sock: socket.socket) -> bytes:
        send_all(sock, data)
        return b"".join(iter(lambda: sock.recv(4096), b""))

    return talk


@pytest.mark.parametrize("how", ["with", "release", "forget"])
def test_threads_of_an_executor_release_what_a_coroutine_received(how: str) -> None:
    """In any order, while the loop receives on; the last ones after the connection ended."""
    data = os.urandom(8 * MIB)

    def work(at: int, chunk: Chunk) -> tuple[int, bytes]:
        time.sleep(at % 5 * 0.001)  # they overtake each other
        if how == "with":
            with chunk:
                return at, bytes(chunk)
        copy = bytes(chunk)
        if how == "release":
            chunk.release()
        return at, copy

    async def main(loop: EventLoop) -> None:
        async def handle(reader: Any, writer: Any) -> None:
            at, jobs = 0, []
            with ThreadPoolExecutor(WORKERS) as pool:
                async for chunk in reader:
                    here, at = at, at + len(chunk)  # a chunk that was given back has no bytes
                    jobs.append(loop.run_in_executor(pool, work, here, chunk))
                    del chunk
                    if len(jobs) > 4 * WORKERS:
                        await jobs[-4 * WORKERS]
                parts = sorted(await asyncio.gather(*jobs))
            whole = hashlib.sha256()
            for _, part in parts:
                whole.update(part)
            writer.write(whole.digest())

        assert await served(loop, handle, answered(data)) == hashlib.sha256(data).digest()

    run(main)


def test_a_fork_beside_connections() -> None:
    """The child has none of them, and the parent all: it goes on where it was."""
    data = os.urandom(MIB)

    async def main(loop: EventLoop) -> None:
        async def handle(reader: Any, writer: Any) -> None:
            head = await reader.readexactly(len(data))
            held = await anext(reader)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for use in (loop.ifq.audit, lambda: bytes(held), lambda: loop.ring.wait(0)):
                        try:
                            use()
                        except errors.ForkedChild:
                            continue
                        status += 1
                    status -= 1
                finally:
                    os._exit(status)
            _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(ended) == 0
            with held:
                writer.write(hashlib.sha256(head + bytes(held) + await reader.read()).digest())

        assert await served(loop, handle, answered(3 * data)) == hashlib.sha256(3 * data).digest()

    run(main)

"""``zcrx-echo`` as a process, and clients that check what it sends back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.guest.card import CARD, connect
from tests.guest.program import Program
from tests.patience import START_S as START_S


class Echo:
    """A running ``zcrx-echo``; leaving the block ends it by SIGTERM and demands status 0."""

    command: tuple[str, ...] = ("zcrx-echo",)

    def __init__(
        self,
        *options: str,
        port: int = 0,
        card: tuple[str, ...] | None = None,
        server: str | None = None,
        start: Callable[..., Any] = Program,
    ) -> None:
        """On CARD, or on another that the options *card* name, reached at *server*."""
        self.server = server
        card = CARD.echo_options if card is None else card
        self.process = start(*self.command, *card, "--json", "--port", str(port), *options)
        self.errors: deque[str] = deque(maxlen=200)
        self.port = self._listening()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self.stats: dict[str, Any] = {}

    def _listening(self) -> int:
        line = self.process.stderr.readline()
        while "warning: the area has" in line:  # tiny areas are what some tests are about
            line = self.process.stderr.readline()
        assert "listening on" in line, line + self.process.stderr.read()
        return int(line.split(" port ")[1].split()[0])

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr)

    def connect(self) -> socket.socket:
        return connect(self.port, self.server)

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """End it; gives its final figures."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> dict[str, Any]:
        """Wait for its end, which must be clean; gives its final figures."""
        output = self.process.stdout.read()
        status = self.process.wait(START_S)
        self._reader.join(START_S)
        assert status == 0, "".join(self.errors)
        assert not self.errors, "".join(self.errors)
        self.stats = json.loads(output.splitlines()[-1])
        assert self.stats["held_buffers"] == 0
        return self.stats

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            if kind is None:
                self.stop()
            else:
                if isinstance(error, TimeoutError):
                    error.add_note(CARD.stuck())
                self.kill()
                self._reader.join(START_S)
                if self.errors and error is not None:
                    error.add_note(f"{self.command[0]} said: " + "".join(self.errors))
        self.process.close()


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send *data* and finish our side."""
    for at in range(0, len(data), 1 << 16):  # a time-out is for a whole sendall()
        sock.sendall(data[at : at + (1 << 16)])
    sock.shutdown(socket.SHUT_WR)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send *data*, finish our side, read the echo to its end."""
    sender = threading.Thread(target=send_all, args=(sock, data))
    sender.start()
    received = bytearray()
    while chunk := sock.recv(1 << 16):
        received += chunk
    sender.join(START_S)
    return bytes(received)


def exchange_many(sock: socket.socket, block: bytes, times: int) -> str:
    """:func:`exchange` of *block*, *times* one behind the other: the SHA-256 of what came back."""

    def send() -> None:
        for _ in range(times):
            for at in range(0, len(block), 1 << 16):
                sock.sendall(block[at : at + (1 << 16)])
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = hashlib.sha256()
    while chunk := sock.recv(1 << 16):
        received.update(chunk)
    sender.join(START_S)
    return received.hexdigest()


def digest(block: bytes, times: int) -> str:
    """The SHA-256 of *block*, *times* one behind the other."""
    found = hashlib.sha256()
    for _ in range(times):
        found.update(block)
    return found.hexdigest()


async def _client(port: int, data: bytes, rng: random.Random) -> bool:
    """Whether all of *data* came back, sent in random pieces with random pauses."""
    sock = CARD.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (CARD.server, port))
    reader, writer = await asyncio.open_connection(sock=sock)

    async def send() -> None:
        at = 0
        while at < len(data):
            piece = rng.choice([1, 100, 1460, 4096, 20_000, 65_536])
            writer.write(data[at : at + piece])
            await writer.drain()
            at += piece
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.02)
        writer.write_eof()

    sending = asyncio.create_task(send())
    received = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    return received == data


def crowd(port: int, clients: int, most_bytes: int, seed: int) -> int:
    """So many clients at once, each of up to *most_bytes*, all compared; gives the bytes sent."""
    rng = random.Random(seed)
    streams = [os.urandom(rng.randrange(most_bytes)) for _ in range(clients)]

    async def everybody() -> list[bool]:
        return await asyncio.gather(
            *(_client(port, data, random.Random(rng.random())) for data in streams)
        )

    same = asyncio.run(asyncio.wait_for(everybody(), 20 * START_S))
    assert all(same), f"{same.count(False)} of {clients} streams came back changed (seed {seed})"
    return sum(map(len, streams))

"""asyncio streams, on asyncio's own loop and on uvloop's."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable

from pyzcrx.bench.gate import Gate

READ_BYTES = 64 << 10


async def _receive(gate: Gate) -> None:
    consume = gate.consume
    size_bytes = chunks = 0

    async def one(stream: socket.socket) -> None:
        nonlocal size_bytes, chunks
        stream.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=stream)
        while data := await reader.read(READ_BYTES):
            size_bytes += len(data)
            chunks += 1
            if gate.job.echo:
                writer.write(data)
                await writer.drain()
            elif consume:
                consume(memoryview(data), stream)
        writer.close()

    await asyncio.gather(*(one(stream) for stream in gate.open()))
    gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=0)


def asyncio_streams(gate: Gate) -> None:
    """``StreamReader.read``."""
    asyncio.run(_receive(gate))


def uvloop_streams(gate: Gate) -> None:
    """The same, where uvloop is installed."""
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    new_loop = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_receive(gate))

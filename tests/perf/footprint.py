"""What a connection takes of a process's memory, beside the area: bytes, as Python counts them.

``python -P tests/perf/footprint.py`` prints them as JSON: of a request, of a stream, and of a
connection of asyncio's streams, counted by tracemalloc in the same way. The kernel's part is the
same for every receiver. The ring is one that no kernel knows (``tests/perf/replay.py``).
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

# At the end of the path: pyzcrx itself comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.perf.replay import Replay

CONNECTIONS = 64
STREAM_ROOM_BYTES = 1 << 20


async def _bytes_each(make: Callable[[], Awaitable[object]]) -> float:
    first = [await make() for _ in range(CONNECTIONS)]  # what grows by doubling has grown then
    gc.collect()
    tracemalloc.start()
    more = [await make() for _ in range(CONNECTIONS)]
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del first, more
    return taken / CONNECTIONS


async def sizes() -> dict[str, float]:
    """Bytes of a connection, by what receives it."""
    ends: list[socket.socket] = []
    writers: list[asyncio.StreamWriter] = []

    async def asyncio_streams() -> object:
        here, there = socket.socketpair()
        ends.append(there)
        reader, writer = await asyncio.open_connection(sock=here)
        writers.append(writer)
        return reader

    with Replay(per_turn=64, turns=1) as replay:
        ifq, sock = replay.ifq, replay._sock

        async def request() -> object:
            return ifq.receive(sock)

        async def stream() -> object:
            return ifq.stream(sock, room_bytes=STREAM_ROOM_BYTES)

        told = {
            "request": await _bytes_each(request),
            "stream": await _bytes_each(stream),
            "asyncio": await _bytes_each(asyncio_streams),
        }
    for writer in writers:
        writer.close()
    for end in ends:
        end.close()
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(sizes())))

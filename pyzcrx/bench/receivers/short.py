"""Connections that come and go: accepted, read to their end, closed."""

from __future__ import annotations

import asyncio
import os
import select
from functools import partial

import pyzcrx
from pyzcrx.aio.loop import EventLoop
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.receivers.aio import new_loop
from pyzcrx.bench.receivers.sockets import EPOLL_BYTES
from pyzcrx.bench.receivers.streams import READ_BYTES
from pyzcrx.bench.receivers.zcrx import finish, registered


def columns(gate: Gate) -> None:
    """``ring.accept()``, ``ring.batches()``."""
    left = gate.job.short
    turns = 0
    with registered(gate) as (ring, ifq), gate.first() as listener:
        ring.accept(listener)
        for batch in ring.batches():
            turns += 1
            batch.release()
            for event in batch.events:
                # No match by keyword, as in buffers().
                if isinstance(event, pyzcrx.Accepted):
                    ifq.receive(event.fd)
                elif isinstance(event, pyzcrx.End):
                    os.close(event.request.fd)
                    left -= 1
                elif isinstance(event, pyzcrx.Failed):
                    raise event.error
            if not left:
                break
        finish(gate, ifq, turns)


def buffers(gate: Gate) -> None:
    """``ring.accept()``, ``ring.events()``."""
    left = gate.job.short
    with registered(gate) as (ring, ifq), gate.first() as listener:
        ring.accept(listener)
        for event in ring.events():
            # No match by keyword: that costs as much as the Buffer.
            if isinstance(event, pyzcrx.Data):
                event.buffer.release()
            elif isinstance(event, pyzcrx.Accepted):
                ifq.receive(event.fd)
            elif isinstance(event, pyzcrx.End):
                os.close(event.request.fd)
                left -= 1
                if not left:
                    break
            elif isinstance(event, pyzcrx.Failed):
                raise event.error
        finish(gate, ifq, 0)


def recv_into(gate: Gate) -> None:
    """One after the other, blocking."""
    memory = bytearray(EPOLL_BYTES)
    size_bytes = chunks = 0
    with gate.first() as listener:
        for _ in range(gate.job.short):
            stream, _ = listener.accept()
            while n := stream.recv_into(memory):
                size_bytes += n
                chunks += 1
            stream.close()
    gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=chunks)


def epoll_recv(gate: Gate) -> None:
    """Behind ``select.epoll``."""
    left = gate.job.short
    size_bytes = chunks = turns = 0
    with gate.first() as listener, select.epoll() as poll:
        listener.setblocking(False)
        poll.register(listener, select.EPOLLIN)
        by_fd = {}
        while left:
            turns += 1
            for fd, _ in poll.poll():
                if fd == listener.fileno():
                    stream, _ = listener.accept()
                    by_fd[stream.fileno()] = stream
                    poll.register(stream, select.EPOLLIN)
                elif data := by_fd[fd].recv(EPOLL_BYTES):
                    size_bytes += len(data)
                    chunks += 1
                else:
                    poll.unregister(fd)
                    by_fd.pop(fd).close()
                    left -= 1
    gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=turns)


async def _serve(gate: Gate) -> tuple[int, int]:
    """A server on the running loop; gives the bytes that came, and in how many reads."""
    left = gate.job.short
    size_bytes = chunks = 0
    all_came = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left, size_bytes, chunks
        while data := await reader.read(READ_BYTES):
            size_bytes += len(data)
            chunks += 1
        writer.close()
        left -= 1
        if not left:
            all_came.set()

    listener = gate.first()
    async with await asyncio.start_server(one, sock=listener):
        await all_came.wait()
    return size_bytes, chunks


async def _served(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    ifq = loop.ifq if isinstance(loop, EventLoop) else None  # registered before any comes
    size_bytes, chunks = await _serve(gate)
    if ifq is not None:
        finish(gate, ifq, 0)
    else:
        gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=0)


def asyncio_streams(gate: Gate) -> None:
    """``asyncio.start_server``."""
    asyncio.run(_served(gate))


def aio_streams(gate: Gate) -> None:
    """The same on :class:`pyzcrx.aio.EventLoop`."""
    with asyncio.Runner(loop_factory=partial(new_loop, gate)) as runner:
        runner.run(_served(gate))

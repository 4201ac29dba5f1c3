"""asyncio on zero-copy receive: an unmodified program on pyzcrx's loop, and chunks in place."""

from __future__ import annotations

import asyncio
import importlib
import socket
from functools import partial

import pyzcrx
from pyzcrx.aio.attach import attach
from pyzcrx.aio.connect import open_connection
from pyzcrx.aio.loop import EventLoop
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.receivers.streams import READ_BYTES
from pyzcrx.bench.receivers.zcrx import TIMEOUT_S, finish, registered, sock_of


async def _read_all(gate: Gate, ifq: pyzcrx.Ifq) -> None:
    """As the receiver ``asyncio`` does."""
    consume = gate.consume

    async def one(stream: socket.socket) -> None:
        stream.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=stream)
        while data := await reader.read(READ_BYTES):
            if gate.job.echo:
                writer.write(data)
                await writer.drain()
            elif consume:
                consume(memoryview(data), stream)
        writer.close()

    await asyncio.gather(*(one(stream) for stream in gate.open()))
    finish(gate, ifq, 0)


async def _take_chunks(gate: Gate, ifq: pyzcrx.Ifq) -> None:
    consume = gate.consume
    turns = 0

    async def one(stream: socket.socket) -> None:
        nonlocal turns
        stream.setblocking(False)
        reader, writer = await open_connection(sock=stream, ifq=ifq)
        async for chunk in reader:
            turns += 1
            if gate.job.echo:
                writer.write(chunk)
                await writer.drain()
                continue
            with chunk:
                if consume:
                    for view in chunk.views():
                        consume(view, stream)
        writer.close()

    await asyncio.gather(*(one(stream) for stream in gate.open()))
    finish(gate, ifq, turns)


def new_loop(gate: Gate) -> EventLoop:
    """As the job wants it."""
    job = gate.job
    return EventLoop(
        interface=job.interface,
        rx_queue=job.queue if job.interface else None,
        rx_buf_len=job.rx_buf_len,
        area_bytes=job.area_bytes,
        queue_free_s=TIMEOUT_S,
        ring=partial(pyzcrx.Ring, gather_us=job.gather_us),
    )


async def _on_our_loop(gate: Gate, chunks: bool) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, EventLoop)
    ifq = loop.ifq
    gate.meter.payload(ifq.area._address, gate.job.area_bytes)
    gate.guard()
    await (_take_chunks if chunks else _read_all)(gate, ifq)


def streams(gate: Gate) -> None:
    """``asyncio.StreamReader.read`` on :class:`pyzcrx.aio.EventLoop`."""
    with asyncio.Runner(loop_factory=partial(new_loop, gate)) as runner:
        runner.run(_on_our_loop(gate, chunks=False))


def chunks(gate: Gate) -> None:
    """``async for chunk in reader`` on :class:`pyzcrx.aio.EventLoop`."""
    with asyncio.Runner(loop_factory=partial(new_loop, gate)) as runner:
        runner.run(_on_our_loop(gate, chunks=True))


async def _take_events(gate: Gate) -> None:
    consume = gate.consume
    with registered(gate) as (ring, ifq):
        for stream in gate.open():
            ifq.receive(stream, context=stream)
        async for event in attach(ring).events():
            match event:
                case pyzcrx.Data(request=request, buffer=buffer):
                    if consume:
                        with buffer.view() as view:
                            consume(view, sock_of(request))
                    buffer.release()
                case pyzcrx.Failed(error=error):
                    raise error
        finish(gate, ifq, 0)


def uvloop_events(gate: Gate) -> None:
    """``async for event in attached.events()`` on uvloop, which takes the ring's turns."""
    with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
        runner.run(_take_events(gate))

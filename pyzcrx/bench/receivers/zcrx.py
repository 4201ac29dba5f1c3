"""pyzcrx itself, by its two faces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pyzcrx
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.job import ReceiveJob

TIMEOUT_S = 60.0
"""The receiver before us may have left its queue a moment ago."""


@contextmanager
def registered(gate: Gate) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    """A ring, and its ifq as the job wants it."""
    job: ReceiveJob = gate.job
    with (
        pyzcrx.Ring(gather_us=job.gather_us) as ring,
        pyzcrx.Area.anonymous(job.area_bytes) as area,
    ):
        ifq = ring.register_ifq(
            area,
            interface=job.interface,
            rx_queue=job.queue if job.interface else None,
            rx_buf_len=job.rx_buf_len,
            timeout=TIMEOUT_S,
        )
        gate.meter.payload(area._address, job.area_bytes)
        yield ring, ifq


def finish(gate: Gate, ifq: pyzcrx.Ifq, turns: int, **more: int) -> None:
    """All has come; *more* figures of the run."""
    stats = ifq.stats()
    gate.meter.stop(
        size_bytes=stats.bytes,
        chunks=stats.buffers,
        turns=turns,
        bytes_copied=stats.bytes_copied,
        rearms=stats.rearms,
        **more,
    )


def sock_of(request: pyzcrx.Request) -> socket.socket:
    """The socket that :func:`columns` and its like gave as context."""
    assert isinstance(request.context, socket.socket)
    return request.context


def columns(gate: Gate) -> None:
    """``ring.batches()``: nothing made for a chunk that is not looked at."""
    turns = 0
    consume = gate.consume
    with registered(gate) as (ring, ifq):
        for stream in gate.open():
            ifq.receive(stream, context=stream)
        for batch in ring.batches():
            turns += 1
            if consume:
                for request, start, stop, *_ in batch.runs():
                    for i in range(start, stop):
                        consume(batch.view(request, i), sock_of(request))
            for event in batch.events:
                if isinstance(event, pyzcrx.Failed):
                    raise event.error
            batch.release()
        finish(gate, ifq, turns)


def buffers(gate: Gate) -> None:
    """``ring.events()``: a Buffer for each chunk."""
    consume = gate.consume
    with registered(gate) as (ring, ifq):
        for stream in gate.open():
            ifq.receive(stream, context=stream)
        for event in ring.events():
            match event:
                case pyzcrx.Data(request=request, buffer=buffer):
                    if consume:
                        with buffer.view() as view:
                            consume(view, sock_of(request))
                    buffer.release()
                case pyzcrx.Failed(error=error):
                    raise error
        finish(gate, ifq, 0)

"""pyzcrx itself, by its three ways to receive."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
        gate.guard()
        yield ring, ifq


def finish(gate: Gate, ifq: pyzcrx.Ifq, turns: int, **more: int) -> None:
    """All has come; *more* figures of the run."""
    gate.meter.end()
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
                for run in batch.runs():
                    stream = sock_of(run.request)
                    for view in run.views():
                        consume(view, stream)
            for event in batch.events:
                if isinstance(event, pyzcrx.End):
                    sock_of(event.request).close()
                elif isinstance(event, pyzcrx.Failed):
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
            # No match by keyword: that costs as much as the Buffer.
            if isinstance(event, pyzcrx.Data):
                buffer = event.buffer
                if consume:
                    with buffer.view() as view:
                        consume(view, sock_of(event.request))
                buffer.release()
            elif isinstance(event, pyzcrx.End):
                sock_of(event.request).close()
            elif isinstance(event, pyzcrx.Failed):
                raise event.error
        finish(gate, ifq, 0)


def chunks(gate: Gate) -> None:
    """``for chunk in stream``: of several connections one chunk each in turn."""
    consume = gate.consume
    with registered(gate) as (_, ifq), ExitStack() as stack:
        left = {}
        for sock in gate.open():
            stream = stack.enter_context(ifq.stream(sock))
            left[iter(stream)] = stream, sock
        while left:
            several = len(left) > 1
            for chunks_of_it, (stream, sock) in tuple(left.items()):
                for chunk in chunks_of_it:
                    if consume:
                        for view in chunk.views():
                            consume(view, sock)
                            view.release()
                    chunk.release()
                    if several:
                        break
                else:
                    del left[chunks_of_it]
                    stream.close()
                    sock.close()
        finish(gate, ifq, 0)

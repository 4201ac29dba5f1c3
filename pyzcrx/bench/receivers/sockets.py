"""Ordinary sockets: the kernel copies every byte."""

from __future__ import annotations

import ctypes
import select
import socket
from functools import partial

from pyzcrx.bench.gate import Gate

EPOLL_BYTES = 64 << 10


def _recv_into(gate: Gate, buffer_bytes: int) -> None:
    """Blocking for one connection, behind epoll for several."""
    memory = bytearray(buffer_bytes)
    gate.meter.payload(ctypes.addressof(ctypes.c_char.from_buffer(memory)), buffer_bytes)
    consume = gate.consume
    view = memoryview(memory)
    streams = gate.open()
    size_bytes = chunks = 0
    if len(streams) == 1:
        [stream] = streams
        while n := stream.recv_into(memory):
            size_bytes += n
            chunks += 1
            if consume:
                consume(view[:n], stream)
        turns = chunks
    else:
        by_fd, poll = _polled(streams)
        turns = 0
        while by_fd:
            turns += 1
            for fd, _ in poll.poll():
                stream = by_fd[fd]
                n = stream.recv_into(memory)
                if not n:
                    poll.unregister(fd)
                    by_fd.pop(fd).close()
                    continue
                size_bytes += n
                chunks += 1
                if consume:
                    consume(view[:n], stream)
    gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=turns)


recv_into_64k = partial(_recv_into, buffer_bytes=64 << 10)
recv_into_1m = partial(_recv_into, buffer_bytes=1 << 20)


def epoll_recv(gate: Gate) -> None:
    """Non-blocking ``recv``, a bytes object a chunk."""
    consume = gate.consume
    by_fd, poll = _polled(gate.open())
    size_bytes = chunks = turns = 0
    while by_fd:
        turns += 1
        for fd, _ in poll.poll():
            stream = by_fd[fd]
            data = stream.recv(EPOLL_BYTES)
            if not data:
                poll.unregister(fd)
                by_fd.pop(fd).close()
                continue
            size_bytes += len(data)
            chunks += 1
            if consume:
                consume(memoryview(data), stream)
    gate.meter.stop(size_bytes=size_bytes, chunks=chunks, turns=turns)


def _polled(streams: list[socket.socket]) -> tuple[dict[int, socket.socket], select.epoll]:
    poll = select.epoll()
    for stream in streams:
        poll.register(stream, select.EPOLLIN)
    return {stream.fileno(): stream for stream in streams}, poll

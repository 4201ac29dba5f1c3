"""The sender's process: ``python -m pyzcrx.bench.send JOB``, the same for all receivers."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import sys
import time
import zlib
from collections.abc import Callable

from pyzcrx.bench.job import SendJob

PIECE_BYTES = 1 << 20
_SCRATCH = memoryview(bytearray(PIECE_BYTES))
SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
Push = Callable[[socket.socket, int], int]


def _sendfile(piece: memoryview) -> Push:
    """From a file in memory: its pages go out as they are."""
    file = os.memfd_create("payload")
    os.write(file, piece)
    return lambda sock, n: os.sendfile(sock.fileno(), file, 0, min(n, len(piece)))


def _send(piece: memoryview) -> Push:
    return lambda sock, n: sock.send(piece[:n])


def _zerocopy(piece: memoryview) -> Push:
    def push(sock: socket.socket, n: int) -> int:
        try:
            return sock.send(piece[:n], MSG_ZEROCOPY)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                raise
            # Notifications wait to be read.
            _forget_notifications(sock)
            return 0

    return push


def _forget_notifications(sock: socket.socket) -> None:
    try:
        while True:
            sock.recvmsg(0, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass


WAYS: dict[str, Callable[[memoryview], Push]] = {
    "sendfile": _sendfile,
    "send": _send,
    "zerocopy": _zerocopy,
}
"""Each sends the beginning of a piece, and gives how much."""


def _connect(job: SendJob) -> list[socket.socket]:
    return [
        socket.create_connection((job.host, port))
        for _ in range(job.connections * (1 + job.relay))
        for port in job.ports
    ]


def send(job: SendJob) -> dict[str, float]:
    """*size_bytes* over all connections, in turns; then the ends.

    Those that get bytes back shut down once they have them: the kernel hands sends to a peer that
    shut down earlier to threads of its own, once its buffer is full (docs/how-to/sending.md).
    """
    piece = memoryview(os.urandom(PIECE_BYTES))
    push = WAYS[job.how](piece)
    streams = _connect(job)
    sources = streams[: len(streams) // (1 + job.relay)]
    sinks = streams[-len(sources) :]
    share, rest = divmod(job.size_bytes, len(sources))
    left = {s.fileno(): share + (i < rest) for i, s in enumerate(sources)}
    by_fd = {s.fileno(): s for s in streams}
    poll = select.epoll()
    for stream in streams:
        stream.setblocking(False)
        if job.how == "zerocopy":
            stream.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    back = dict(zip((s.fileno() for s in sinks), left.values(), strict=True)) if job.back else {}
    for fd, stream in by_fd.items():
        poll.register(fd, (fd in left and select.EPOLLOUT) | (fd in back and select.EPOLLIN))
        if fd not in left and fd not in back:
            stream.shutdown(socket.SHUT_WR)
    sent, returned = Sums(job.check), Sums(job.check)
    while left or back:
        for fd, events in poll.poll():
            stream = by_fd[fd]
            if events & select.EPOLLERR:
                _forget_notifications(stream)
            if fd in back and events & select.EPOLLIN:
                n = _read_back(stream)
                returned.add(fd, _SCRATCH[:n])
                back[fd] -= n
            if fd in left and events & select.EPOLLOUT:
                n = push(stream, left[fd])
                sent.add(fd, piece[:n])
                left[fd] -= n
                if not left[fd]:
                    del left[fd]
                    poll.modify(fd, select.EPOLLIN)
            if back.get(fd) == 0:
                del back[fd]
            if fd not in left and fd not in back:
                stream.shutdown(socket.SHUT_WR)
                poll.unregister(fd)
    for stream in streams:  # its receiver ends when it has all
        stream.setblocking(True)
        if stream.recv(1) and job.back:
            sys.exit("send: more came back than was sent")
    same = [sent.of(s) for s in sources] == [returned.of(s) for s in sinks]
    for stream in streams:
        stream.close()
    if job.back and not same:
        sys.exit("send: what came back is not what was sent")
    return {}


def short(job: SendJob) -> dict[str, float]:
    """Connections one group after the other: connect, send, finish, wait for the receiver."""
    piece = os.urandom(job.size_bytes // job.short)
    left = job.short
    while left:
        n = min(left, job.connections)
        streams = [socket.create_connection((job.host, job.ports[0])) for _ in range(n)]
        for stream in streams:
            stream.sendall(piece)
            stream.shutdown(socket.SHUT_WR)
        for stream in streams:
            if stream.recv(1):
                sys.exit("send: something came back")
            stream.close()
        left -= n
    return {}


class Sums:
    """Check sums by descriptor, if *wanted*."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._sums: dict[int, int] = {}

    def add(self, fd: int, data: memoryview) -> None:
        """*data* comes next."""
        if self._wanted:
            self._sums[fd] = zlib.crc32(data, self._sums.get(fd, 0))

    def of(self, stream: socket.socket) -> int:
        """That of all of it so far."""
        return self._sums.get(stream.fileno(), 0)


def _read_back(stream: socket.socket) -> int:
    """What has come back, not kept."""
    try:
        n = stream.recv_into(_SCRATCH)
    except BlockingIOError:
        return 0
    if not n:
        sys.exit("send: the receiver closed the connection")
    return n


def echo(job: SendJob) -> dict[str, list[int]]:
    """Round trips of *echo_bytes* on one connection, in ns."""
    [stream] = _connect(job)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = os.urandom(job.echo_bytes)
    took = []
    for _ in range(job.echo_rounds):
        began = time.perf_counter_ns()
        stream.sendall(message)
        back = bytearray()
        while len(back) < len(message):
            piece = stream.recv(len(message))
            if not piece:
                sys.exit("send: the receiver closed the connection")
            back += piece
        took.append(time.perf_counter_ns() - began)
        if back != message:
            sys.exit("send: an echo came back changed")
    stream.shutdown(socket.SHUT_WR)
    stream.recv(1)
    stream.close()
    return {"round_trips_ns": took}


def main(text: str) -> None:
    """Tells what it measured as one line of JSON."""
    job = SendJob.from_json(text)
    try:
        figures = echo(job) if job.echo_rounds else short(job) if job.short else send(job)
    except OSError as error:
        sys.exit(f"send: {error}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])

"""Accepting with the kernel's own limits: descriptors that run out end nothing."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.patience import START_S

SERVER = """
import os, resource, socket, sys
import pyzcrx
from pyzcrx.cli.acceptor import Acceptor, make_room

limit, most, lost = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
others = [os.dup(0) for _ in range(lost)]
with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener, pyzcrx.Ring() as ring:
    acceptor = Acceptor(ring, listener, most or make_room(1000))
    ring.wakeup_fd
    print(listener.getsockname()[1], acceptor.most, flush=True)
    connections = set()
    while True:
        waits = acceptor.wait_s()
        batch = ring.wait(0.05 if waits is None else waits)
        acceptor.resume()
        for event in batch.events:
            if isinstance(event, pyzcrx.Accepted):
                if acceptor.admit(event.fd, len(connections)):
                    connections.add(event.fd)
                    os.set_blocking(event.fd, False)
                    os.write(event.fd, b"!")
            else:
                acceptor.failed(event.request, event.error)
        for fd in list(connections):
            try:
                gone = os.read(fd, 1) == b""
            except BlockingIOError:
                continue
            if gone:
                os.close(fd)
                connections.remove(fd)
"""
LIMIT = 64
CROWD = 500


@contextmanager
def server(most: int = 0, lost: int = 0) -> Iterator[tuple[int, int]]:
    """Its port, and how many connections it takes at a time."""
    argv = [sys.executable, "-P", "-c", SERVER, *map(str, (LIMIT, most, lost))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port, room = map(int, process.stdout.readline().split())
            yield port, room
            assert process.poll() is None
        finally:
            process.kill()


def connected(port: int) -> socket.socket:
    """It may be reset by now."""
    sock = socket.socket()
    sock.settimeout(START_S)
    with suppress(ConnectionResetError):
        sock.connect(("127.0.0.1", port))
    return sock


def welcome(sock: socket.socket) -> bool:
    """Whether it is taken, and told so, or reset."""
    try:
        return sock.recv(1) == b"!"
    except OSError as error:
        if error.errno not in (errno.ECONNRESET, errno.ENOTCONN):
            raise
        return False


@pytest.mark.parametrize(("most", "lost"), [(0, 0), (1000, 0), (1000, 20)])
def test_each_of_a_crowd_is_taken_or_refused_and_room_is_used_again(most: int, lost: int) -> None:
    """Whether the cap knows how few descriptors there are or not."""
    with server(most, lost) as (port, room), ExitStack() as crowd:
        socks = [crowd.enter_context(connected(port)) for _ in range(CROWD)]
        taken = sum(map(welcome, socks))
        assert 0 < taken <= min(room, LIMIT - lost)
        if not most:
            assert taken == room
        with connected(port) as late:
            assert not welcome(late)
        crowd.close()
        with ExitStack() as again:
            while not welcome(again.enter_context(connected(port))):
                pass  # the others' ends are on their way

"""Peers that mean no good: memory stays within its options, and the others are served.

A stock client, socat, sends a stream beside them and gets it back unchanged.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.guest.card import CARD
from tests.guest.echo import Echo, exchange
from tests.leaks import Holdings, resident_kb
from tests.long import rounds
from tests.patience import PATIENCE_S, SLOW, START_S, until

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)
MOST_PER_IDLE_KB = 8
"""Resident memory of zcrx-echo for a connection that does nothing."""


def served(echo: Echo, size_bytes: int = MIB) -> None:
    """A stock client's stream comes back as it was."""
    data = os.urandom(size_bytes)
    back = subprocess.run(
        [*CARD.client_prefix, "socat", "-t", "60", "STDIO", f"TCP:{CARD.server}:{echo.port}"],
        input=data,
        capture_output=True,
        timeout=START_S * 2,
    )
    assert back.returncode == 0, back.stderr
    assert back.stdout == data


def fds(echo: Echo) -> int:
    return len(Holdings.now(echo.process.pid).fds)


def reset(sock: socket.socket) -> None:
    """Close by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def fill(sock: socket.socket, data: bytes = bytes(16 * MIB)) -> int:
    """Send without ever reading, as much as is taken; gives how much that was."""
    sock.setblocking(False)
    sent, stuck = 0, 0
    while sent < len(data) and stuck < 20:
        try:
            sent += sock.send(data[sent : sent + 65536])
            stuck = 0
        except BlockingIOError:
            stuck += 1
            time.sleep(0.02)
    return sent


def exactly(sock: socket.socket, size_bytes: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    received = bytearray()
    while len(received) < size_bytes and (chunk := sock.recv(size_bytes - len(received))):
        received += chunk
    return bytes(received)


def figures(echo: Echo) -> Iterator[dict[str, int]]:
    """Its figures as it prints them (``--stats-interval``), the latest of each moment."""
    for line in echo.process.stdout:
        yield json.loads(line)


@contextmanager
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- many ------------------------------------------------------------------------------


def test_a_connect_storm() -> None:
    with Echo() as echo:
        before = fds(echo)
        for n in range(rounds(500, 20_000)):
            sock = echo.connect()
            if n % 3 == 0:
                reset(sock)
            else:
                sock.close()
            if n % 250 == 100:
                served(echo)
        served(echo)
        until(lambda: fds(echo) <= before, "connections were not closed")


def test_idle_connections() -> None:
    n = rounds(500, 10_000)
    with many_descriptors(), Echo() as echo, ExitStack() as stack:
        served(echo)
        before = resident_kb(echo.process.pid)
        idle = [stack.enter_context(echo.connect()) for _ in range(n)]
        served(echo)
        assert resident_kb(echo.process.pid) - before <= n * MOST_PER_IDLE_KB
        # They were not forgotten.
        for sock in idle[:: n // 50]:
            sock.sendall(b"still here")
        for sock in idle[:: n // 50]:
            assert exactly(sock, 10) == b"still here"


def test_more_than_max_connections_are_refused_and_room_is_used_again() -> None:
    with Echo("--max-connections", "20") as echo:
        slow = [echo.connect() for _ in range(20)]
        for sock in slow:
            sock.sendall(b"G")  # and nothing more, as a slowloris does
            assert sock.recv(1) == b"G"
        for _ in range(100):
            assert refused(echo)
        slow.pop().close()
        until(lambda: not refused(echo), "a closed connection's place stays taken")
        for sock in slow:
            sock.sendall(b"ET")
            assert exactly(sock, 2) == b"ET"
            sock.close()


def refused(echo: Echo) -> bool:
    try:
        with echo.connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


# -- slow --------------------------------------------------------------------------------


def test_one_byte_at_a_time() -> None:
    data = os.urandom(2000)
    with Echo() as echo, echo.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data[:1000]:
            sock.send(bytes([byte]))
            assert sock.recv(1) == bytes([byte])
        for byte in data[1000:]:
            sock.send(bytes([byte]))
        assert exactly(sock, 1000) == data[1000:]
        served(echo)


def test_bytes_that_are_never_read_back_hold_bytes_not_buffers() -> None:
    n = 12_000
    with Echo("--area", "32M", "--stats-interval", "1") as echo, ExitStack() as stack:
        deaf = []
        for _ in range(4):
            sock = stack.enter_context(echo.connect())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # So that the echo soon finds no room.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.append(sock)
        for _ in range(n):
            for sock in deaf:
                sock.send(b"x")
        for line in figures(echo):
            if line["bytes"] >= n * len(deaf):
                assert line["held_buffers"] < 200
                break
        served(echo)
        for sock in deaf:
            sock.shutdown(socket.SHUT_WR)
            assert exactly(sock, n) == b"x" * n


def test_peers_that_never_read_are_not_read_on() -> None:
    backlog, deaf = 64 << 10, rounds(8, 32)
    with (
        Echo("--max-backlog", "64K", "--area", "64M", "--stats-interval", "1") as echo,
        ExitStack() as stack,
    ):
        served(echo)
        resident = resident_kb(echo.process.pid)
        for _ in range(deaf):
            sock = stack.enter_context(echo.connect())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            assert fill(sock) < 16 * MIB
        served(echo)
        line = next(figures(echo))
        while line["bytes"] < 2 * MIB + deaf * backlog:
            line = next(figures(echo))
        # One and a half times the backlog, in buffers that are at least a quarter full.
        assert line["held_buffers"] * 4096 <= deaf * backlog * 6
        # The area was resident from the start where it is pinned.
        assert resident_kb(echo.process.pid) - resident <= 64 << 10
        for _ in range(3):
            served(echo)


def test_a_zero_window_that_opens_late_loses_nothing() -> None:
    data = os.urandom(3 * MIB)
    with Echo("--max-backlog", "64K") as echo, CARD.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((CARD.server, echo.port))
        sent = fill(sock, data)
        served(echo)
        sock.settimeout(PATIENCE_S)
        received = exchange(sock, data[sent:])
        assert received == data


def test_idle_timeout_resets_who_does_nothing_and_nobody_else() -> None:
    options = ("--idle-timeout", str(8 * SLOW), "--max-backlog", "64K")
    with Echo(*options) as echo, ExitStack() as stack:
        busy = stack.enter_context(echo.connect())
        busy.sendall(b"x")
        assert busy.recv(1) == b"x"
        alone = fds(echo)
        silent = stack.enter_context(echo.connect())
        deaf = stack.enter_context(echo.connect())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        fill(deaf)

        def only_busy_is_left() -> bool:
            busy.sendall(b"x")
            assert busy.recv(1) == b"x"
            return fds(echo) <= alone

        until(only_busy_is_left, "an idle connection was not reset")
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
        served(echo)


# -- rude --------------------------------------------------------------------------------


def no_data(sock: socket.socket) -> None:
    """Established, nothing sent."""


def data_under_way(sock: socket.socket) -> None:
    """Data sent, its echo not read."""
    sock.sendall(bytes(50_000))


def half_closed(sock: socket.socket) -> None:
    """Our side is finished, the echo is under way (FIN_WAIT)."""
    sock.sendall(bytes(50_000))
    sock.shutdown(socket.SHUT_WR)


def finished(sock: socket.socket) -> None:
    """Both sides are finished, the last echo is unread."""
    sock.sendall(bytes(1000))
    sock.shutdown(socket.SHUT_WR)
    assert sock.recv(1)


def reading_closed(sock: socket.socket) -> None:
    """We take nothing more."""
    sock.shutdown(socket.SHUT_RD)
    sock.sendall(bytes(50_000))


def stuffed(sock: socket.socket) -> None:
    """The window is shut, everything is full."""
    fill(sock)


@pytest.mark.parametrize(
    "state", [no_data, data_under_way, half_closed, finished, reading_closed, stuffed]
)
def test_a_reset_in_every_state(state: Callable[[socket.socket], None]) -> None:
    with Echo("--max-backlog", "64K") as echo:
        before = fds(echo)
        for _ in range(rounds(5 if state is stuffed else 20, 200)):
            sock = echo.connect()
            with suppress(ConnectionResetError, BrokenPipeError):
                state(sock)
            reset(sock)
        served(echo)
        until(lambda: fds(echo) <= before, "connections were not closed")
        assert echo.stop()["held_buffers"] == 0


def test_a_reset_before_the_connection_is_accepted() -> None:
    with Echo() as echo:
        before = fds(echo)
        for _ in range(100):
            sock = CARD.socket()
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect((CARD.server, echo.port))
            reset(sock)
        served(echo)
        until(lambda: fds(echo) <= before, "connections were not closed")


@pytest.mark.parametrize("rules", [True, False], ids=["with the rules", "without"])
def test_urgent_data_from_many(rules: bool) -> None:
    with ExitStack() as stack:
        if rules:
            stack.enter_context(CARD.urgent_defence())
        # With the rules nobody is to be reset, without them everybody is, at the end.
        idle_s = START_S if CARD.zero_copy and rules else 5 * SLOW
        echo = stack.enter_context(Echo("--idle-timeout", str(idle_s)))
        before = fds(echo)
        clients = [stack.enter_context(echo.connect()) for _ in range(20)]
        for sock in clients:
            sock.sendall(b"abc")
            sock.send(b"d", socket.MSG_OOB)
            sock.sendall(b"efghi")
        served(echo)
        ends = set()
        for sock in clients:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            try:
                received = b""
                while chunk := sock.recv(100):
                    received += chunk
                ends.add(received)
            except ConnectionResetError:
                ends.add(b"reset")
        if CARD.zero_copy and rules:
            assert ends == {b"abcdefghi"}
        else:
            # Cut short, and nobody was told otherwise.
            assert b"abcdefghi" not in ends
        until(lambda: fds(echo) <= before, "connections were not closed")
        served(echo)

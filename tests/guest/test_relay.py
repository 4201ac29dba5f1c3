"""``zcrx-relay`` and ``pyzcrx.relay()``: two connections that behave as one."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue

import psutil
import pytest

import pyzcrx
from tests.guest.card import CARD, connect, register
from tests.guest.echo import Echo, exchange, send_all
from tests.leaks import nothing_leaks
from tests.patience import PATIENCE_S, START_S

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)

Serve = Callable[[socket.socket], None]


class Upstream:
    """A server on the peer's side, a thread for each connection, which ends with *serve*."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._listener = CARD.socket()
        self._listener.bind((CARD.peer_address, 0))
        self._listener.listen(1024)
        self.port = self._listener.getsockname()[1]
        self.socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.socks.append(sock)
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self._serve(sock)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._listener.close()
        for sock in self.socks:
            sock.close()


def echoes(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


@contextmanager
def upstream(serve: Serve = echoes) -> Iterator[Upstream]:
    server = Upstream(serve)
    try:
        yield server
    finally:
        server.close()


class Relay(Echo):
    """A running ``zcrx-relay`` to *port* of the peer."""

    def __init__(self, port: int, *options: str) -> None:
        self.command = ("zcrx-relay", f"{CARD.peer_address}:{port}")
        super().__init__(*options)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def outcome(sock: socket.socket) -> tuple[bytes, bool]:
    """What arrives, and whether a reset ends it."""
    data = bytearray()
    try:
        while chunk := sock.recv(1 << 16):
            data += chunk
    except (ConnectionResetError, BrokenPipeError):
        return bytes(data), True
    return bytes(data), False


@pytest.mark.parametrize("zero_copy", ["auto", "always", "never"])
def test_both_ways_are_exact(zero_copy: str) -> None:
    data = os.urandom(16 * MIB)
    with upstream() as server, Relay(server.port, "--zero-copy", zero_copy) as relay:
        with relay.connect() as sock:
            assert exchange(sock, data) == data
        stats = relay.stop()
    assert stats["bytes"] == stats["sent"]["accepted_bytes"] == 2 * len(data)
    assert stats["relay"] == {
        "connections": 1,
        "open": 0,
        "refused": 0,
        "resets": 0,
        "forward_bytes": len(data),
        "backward_bytes": len(data),
    }
    assert stats["sent"]["unnotified_bytes"] == stats["sent"]["abandoned_bytes"] == 0
    if CARD.zero_copy:
        assert stats["bytes_copied"] == 0
    if CARD.zero_copy and zero_copy == "always":
        assert stats["sent"]["bytes_copied"] == stats["sent"]["bytes_reported_copied"] == 0
    if zero_copy == "never" or not CARD.zero_copy:  # over loopback the kernel copies anyway
        assert stats["sent"]["bytes_zero_copy"] == 0


def test_many_at_once() -> None:
    streams = [os.urandom(1 + i * 7919 % (256 << 10)) for i in range(64)]
    with upstream() as server, Relay(server.port, "--zero-copy", "always") as relay:

        def one(data: bytes) -> bool:
            with relay.connect() as sock:
                return exchange(sock, data) == data

        with ThreadPoolExecutor(len(streams)) as pool:
            assert all(pool.map(one, streams))
        stats = relay.stop()
    assert stats["relay"]["forward_bytes"] == sum(map(len, streams))
    assert stats["relay"]["resets"] == 0


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close(first: str) -> None:
    question, answer = os.urandom(MIB), os.urandom(MIB)
    got = SimpleQueue[bytes]()

    def serve(sock: socket.socket) -> None:
        if first == "server":
            send_all(sock, answer)
        got.put(outcome(sock)[0])
        if first == "client":
            send_all(sock, answer)

    with upstream(serve) as server, Relay(server.port) as relay:
        with relay.connect() as sock:
            if first == "client":
                send_all(sock, question)
                assert outcome(sock) == (answer, False)
            else:
                assert outcome(sock) == (answer, False)
                send_all(sock, question)
        assert got.get(timeout=START_S) == question
        assert relay.stop()["relay"]["resets"] == 0


@pytest.mark.parametrize("state", ["at once", "half sent", "not reading"])
@pytest.mark.parametrize("by", ["client", "server"])
def test_a_reset_of_one_side_resets_the_other(by: str, state: str) -> None:
    ends = SimpleQueue[tuple[bytes, bool]]()
    began = threading.Event()

    def bring_to_state(sock: socket.socket) -> None:
        if state == "half sent":
            sock.sendall(bytes(100_000))
        elif state == "not reading":
            sock.settimeout(1)
            with suppress(TimeoutError):
                while True:
                    sock.sendall(bytes(1 << 16))

    def serve(sock: socket.socket) -> None:
        if by == "server":
            bring_to_state(sock)
            reset(sock)
            began.set()
            return
        began.set()
        if state == "not reading":
            stop.wait(START_S)
        ends.put(outcome(sock))

    stop = threading.Event()
    with upstream(serve) as server, Relay(server.port, "--zero-copy", "always") as relay:
        sock = relay.connect()
        if by == "client":
            assert began.wait(START_S)
            bring_to_state(sock)
            reset(sock)
            stop.set()
        else:
            if state == "not reading":
                assert began.wait(START_S)
            ends.put(outcome(sock))
            sock.close()
        assert ends.get(timeout=START_S)[1], "the other side ended cleanly"
        stats = relay.stop()
    # A server may be faster with its reset than the relay with the connection.
    assert stats["relay"]["resets"] + (by == "server") * stats["relay"]["refused"] == 1
    assert stats["sent"]["unnotified_bytes"] == 0


def test_a_reset_after_a_half_close_leaves_nothing() -> None:
    with upstream() as server, Relay(server.port) as relay:
        for _ in range(8):
            sock = relay.connect()
            send_all(sock, bytes(100_000))
            reset(sock)
        with relay.connect() as sock:
            assert exchange(sock, b"x" * 10_000) == b"x" * 10_000
        stats = relay.stop()
    assert stats["relay"]["open"] == stats["sent"]["unnotified_bytes"] == 0


def test_an_upstream_that_refuses_resets_the_client() -> None:
    with upstream() as server:
        port = server.port
    with Relay(port) as relay:
        for _ in range(3):
            with suppress(ConnectionResetError), relay.connect() as sock:  # it may be that quick
                assert outcome(sock) == (b"", True)
        stats = relay.stop()
    assert (stats["relay"]["refused"], stats["relay"]["open"]) == (3, 0)


def test_a_reader_that_waits_slows_the_sender_and_loses_nothing() -> None:
    go = threading.Event()
    got = SimpleQueue[bytes]()

    def serve(sock: socket.socket) -> None:
        go.wait(START_S)
        got.put(outcome(sock)[0])

    data = os.urandom(32 * MIB)
    sent = 0
    with upstream(serve) as server, Relay(server.port, "--area", "8M") as relay:
        with relay.connect() as sock:
            sock.settimeout(2)
            with suppress(TimeoutError):
                while sent < len(data):
                    sent += sock.send(data[sent : sent + (1 << 16)])
            assert sent < len(data)
            sock.settimeout(START_S)
            go.set()
            send_all(sock, data[sent:])
            assert outcome(sock) == (b"", False)
        stats = relay.stop()
    assert got.get(timeout=START_S) == data
    assert stats["relay"]["forward_bytes"] == len(data)


def test_what_is_idle_for_too_long_is_reset() -> None:
    with upstream() as server, Relay(server.port, "--idle-timeout", "0.5") as relay:
        with relay.connect() as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
            assert outcome(sock) == (b"", True)
        assert relay.stop()["relay"]["resets"] == 1


def test_it_ends_with_connections_open() -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(bytes(8 * MIB))

    with upstream(serve) as server, Relay(server.port, "--zero-copy", "always") as relay:
        socks = [relay.connect() for _ in range(4)]
        for sock in socks:
            assert sock.recv(1)
        stats = relay.stop()
        for sock in socks:
            assert outcome(sock)[1]
            sock.close()
    assert stats["sent"]["unnotified_bytes"] == stats["sent"]["abandoned_bytes"] == 0


def test_the_worker_of_a_supervisor_relays_without_privilege() -> None:
    data = os.urandom(MIB)
    with upstream() as server, Relay(server.port, "--user", "nobody") as relay:
        (worker,) = psutil.Process(relay.process.pid).children()
        assert worker.uids().effective == pwd.getpwnam("nobody").pw_uid
        with relay.connect() as sock:
            assert exchange(sock, data) == data
        stats = relay.stop()
    assert stats["relay"]["forward_bytes"] == len(data)
    CARD.queue_free()


def test_it_runs_where_it_is_placed() -> None:
    with upstream() as server, Relay(server.port, "--cpu", "0", "--busy-poll", "10") as relay:
        assert psutil.Process(relay.process.pid).cpu_affinity() == [0]
        with relay.connect() as sock:
            assert exchange(sock, bytes(100_000)) == bytes(100_000)
        stats = relay.stop()
    if CARD.zero_copy:
        assert stats["placement"]["receiver_cpus"] == [0]
        assert stats["placement"]["busy_poll_us"] == 10
        assert sum(stats["placement"]["napi_ids"].values()) > 0
    else:
        assert "placement" not in stats


def test_within_a_program() -> None:
    data = os.urandom(4 * MIB)
    back: list[bytes] = []
    with (
        nothing_leaks(),
        upstream() as server,
        socket.create_server((CARD.server, 0)) as listener,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(8 * MIB) as area,
    ):
        ifq = register(ring, area)
        sock = connect(listener.getsockname()[1])

        def client() -> None:
            with sock:
                back.append(exchange(sock, data))

        thread = threading.Thread(target=client)
        thread.start()
        stats = pyzcrx.relay(
            ring,
            ifq,
            listener,
            (CARD.peer_address, server.port),
            until=lambda: not thread.is_alive(),
            connect_timeout=PATIENCE_S,
        )
        thread.join()
        assert back == [data]
        assert (stats.connections, stats.forward_bytes, stats.resets) == (1, len(data), 0)
        ifq.audit()
        assert ifq._core.account.leased == 0
        assert ring.in_flight == 0

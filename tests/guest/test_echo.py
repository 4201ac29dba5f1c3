"""The whole program on real TCP: what clients send comes back, every byte, in order."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.guest.card import CARD, ONE_BUFFER
from tests.guest.echo import START_S, Echo, crowd, exchange
from tests.leaks import Holdings, resident_kb, settled
from tests.long import rounds

MIB = 1 << 20


@pytest.mark.parametrize(
    ("clients", "most_bytes"), [(1, 8 * MIB), (64, 512 << 10), (512, 64 << 10)]
)
def test_clients_at_once(clients: int, most_bytes: int) -> None:
    with Echo() as echo:
        sent = crowd(echo.port, clients, most_bytes, seed=clients)
        stats = echo.stop()
    assert stats["bytes"] == sent
    assert CARD.copied(stats)
    assert stats["connections"] == clients


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--cq-entries", "8"], "rearms"),
        (["--rq-entries", "8"], None),
        (["--rq-entries", "1"], None),
        (["--area", "64K"], "alloc_failures"),
        (["--area", "4K"], "alloc_failures"),
        (["--cq-entries", "8", "--rq-entries", "8", "--area", "64K"], "rearms"),
        (["--rq-memory", "kernel"], None),
        (["--max-backlog", "1K"], None),
        (["--huge", "thp"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_tight_queues_cost_speed_never_data(options: list[str], expected: str | None) -> None:
    if CARD.zero_copy and options == ["--area", "4K"]:
        pytest.skip(ONE_BUFFER)
    with Echo(*options) as echo:
        sent = crowd(echo.port, 40, 128 << 10, seed=7)
        # One that reads nothing until it has sent its fill, beside the others.
        with echo.connect() as late:
            late.sendall(bytes(16 << 10))
            sent += 16 << 10
            sent += crowd(echo.port, 4, 64 << 10, seed=8)
            late.shutdown(socket.SHUT_WR)
            assert exchange_rest(late) == bytes(16 << 10)
        stats = echo.stop()
    assert stats["bytes"] == sent
    if expected:
        assert stats[expected] > 0


def exchange_rest(sock: socket.socket) -> bytes:
    received = bytearray()
    while chunk := sock.recv(1 << 16):
        received += chunk
    return bytes(received)


def test_half_close() -> None:
    data = os.urandom(3 * MIB)
    with Echo() as echo, echo.connect() as sock:
        assert exchange(sock, data) == data
        # Nothing sent at all: the end comes back too.
        with echo.connect() as silent:
            silent.shutdown(socket.SHUT_WR)
            assert silent.recv(1) == b""


def test_the_client_that_closes_its_reading_side() -> None:
    with Echo() as echo:
        with echo.connect() as sock:
            sock.shutdown(socket.SHUT_RD)
            sock.sendall(bytes(100))
        with echo.connect() as sock:
            assert exchange(sock, b"next") == b"next"


def test_reset_in_mid_stream() -> None:
    with Echo() as echo:
        idle = Holdings.now(echo.process.pid)
        for size in (0, 1, 100_000):
            sock = echo.connect()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.send(bytes(size)) if size else None
            sock.close()  # RST, with the echo on its way
        with echo.connect() as sock:
            assert exchange(sock, b"still there") == b"still there"
        after = settled(echo.process.pid, len(idle.fds))
        assert len(after.fds) <= len(idle.fds), after


def test_resets_with_an_echo_under_way_a_hundred_times() -> None:
    with Echo("--max-backlog", "64K") as echo:
        before = len(Holdings.now(echo.process.pid).fds)
        for i in range(rounds(100, 2000)):
            sock = echo.connect()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(i % 7 + 1):
                    sock.send(bytes(50_000))
            if i % 3 == 0:
                sock.shutdown(socket.SHUT_WR)
            sock.close()
        with echo.connect() as sock:
            assert exchange(sock, b"still there") == b"still there"
        deadline = time.monotonic() + START_S
        while len(Holdings.now(echo.process.pid).fds) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(Holdings.now(echo.process.pid).fds) == before


def test_urgent_data_is_no_clean_end() -> None:
    with CARD.urgent_defence(), Echo("--discard", "--once") as echo:
        with echo.connect() as sock:
            sock.sendall(b"abc")
            sock.send(b"d", socket.MSG_OOB)
            sock.sendall(b"efghi")
        stats = echo.finish()
    # On a card the defence makes an ordinary byte of the urgent one.
    assert stats["bytes"] == 9 if CARD.zero_copy else stats["bytes"] < 9


def test_a_peer_that_never_reads_does_not_stop_the_others() -> None:
    with Echo("--area", "1M") as echo:
        deaf = [echo.connect() for _ in range(2)]
        for sock in deaf:
            sock.setblocking(False)
            for _ in range(200):
                try:
                    sock.send(bytes(65536))
                except BlockingIOError:
                    break
        crowd(echo.port, 8, 64 << 10, seed=1)
        for sock in deaf:
            sock.close()


def test_kill_in_mid_stream_then_an_immediate_restart() -> None:
    port = 0
    for _ in range(rounds(5, 100)):
        with Echo(port=port) as echo:
            port = echo.port
            with echo.connect() as sock:
                sock.sendall(bytes(256 << 10))
                assert sock.recv(1000)
                echo.kill()
    with Echo(port=port) as echo, echo.connect() as sock:
        assert exchange(sock, b"back") == b"back"


TRIES = 3


def test_a_thousand_connections_one_after_another_grow_nothing() -> None:
    data = os.urandom(5000)
    with Echo("--area", "8M") as echo:

        def serve(n: int) -> None:
            for _ in range(n):
                with echo.connect() as sock:
                    assert exchange_short(sock, data)

        serve(100)
        pid = echo.process.pid
        n, served = rounds(1000, 20_000), 100
        # What leaks grows each time; an allocator takes more now and then.
        for _ in range(TRIES):
            before, resident = Holdings.now(pid), resident_kb(pid)
            serve(n)
            served += n
            after = settled(pid, len(before.fds))
            assert len(after.fds) == len(before.fds)
            assert after.pinned_kb == before.pinned_kb
            more = after.mappings - before.mappings, resident_kb(pid) - resident
            if more[0] <= 1 and more[1] <= 1024:
                break
        else:
            pytest.fail(f"mappings and resident kB went on growing, last by {more}")
        stats = echo.stop()
    assert stats["connections"] == served


def exchange_short(sock: socket.socket, data: bytes) -> bool:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    return exchange_rest(sock) == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_under_load(number: int) -> None:
    with Echo() as echo, echo.connect() as sock:
        sock.sendall(bytes(100_000))
        assert sock.recv(10)
        stats = echo.stop(number)
        assert stats["bytes"] > 0
        assert stats["seconds"] > 0


def test_once_ends_after_one_connection() -> None:
    with Echo("--once") as echo:
        with echo.connect() as sock:
            assert exchange(sock, b"only") == b"only"
        assert echo.finish()["connections"] == 1


def test_discard_sends_nothing_back() -> None:
    with Echo("--discard") as echo, echo.connect() as sock:
        assert exchange(sock, bytes(MIB)) == b""
        assert echo.stop()["bytes"] == MIB


def test_json_keys_and_intervals() -> None:
    keys = {
        "bytes",
        "bytes_zero_copy",
        "bytes_copied",
        "buffers",
        "connections",
        "rearms",
        "alloc_failures",
        "held_buffers",
        "held_max_ns",
        "seconds",
        "sent",
    }
    with Echo("--stats-interval", "0.1") as echo, echo.connect() as sock:
        assert exchange(sock, bytes(1000)) == bytes(1000)
        seen = [json.loads(echo.process.stdout.readline()) for _ in range(3)]
        if CARD.zero_copy:
            keys.add("placement")
        assert all(set(line) == keys for line in seen)
        assert seen[0]["seconds"] < seen[2]["seconds"]


@pytest.mark.parametrize("client", ["socat -t 60 STDIO TCP:{}:{}", "nc -N {} {}"])
def test_stock_clients(client: str, tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    (tmp_path / "in").write_bytes(data)
    with Echo() as echo, (tmp_path / "in").open("rb") as source:
        back = subprocess.run(
            [*CARD.client_prefix, *client.format(CARD.server, echo.port).split()],
            stdin=source,
            capture_output=True,
            check=True,
            timeout=START_S,
        ).stdout
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_curl_gets_its_request_back() -> None:
    # No HTTP here: curl's own request comes back, which is all it is asked for.
    with Echo("--once") as echo:
        with subprocess.Popen(
            [
                *CARD.client_prefix,
                "curl",
                "--silent",
                "--no-buffer",
                "--http0.9",
                "--max-time",
                str(START_S),
                f"http://{CARD.server}:{echo.port}/x",
            ],
            stdout=subprocess.PIPE,
        ) as curl:
            assert curl.stdout is not None
            back = curl.stdout.readline()
            curl.terminate()
        echo.finish()
    assert back == b"GET /x HTTP/1.1\r\n"

"""``zcrx-recv``: what it claims to be on disk is there, whatever happens to it or to the disk."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.guest.card import CARD, Pair
from tests.guest.program import run
from tests.guest.recv import MIB, Recv, disk, send
from tests.patience import START_S, until

WAYS = pytest.mark.parametrize("way", ["--direct", "--no-direct"])


@pytest.fixture
def out() -> Iterator[Path]:
    """A name on the guest's own disk; /tmp is in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder) / "out"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(*paths: str | Path) -> str:
    return digest(b"".join(Path(path).read_bytes() for path in paths))


@WAYS
@pytest.mark.parametrize("more", [(), ("--split-size", "1M"), ("--preallocate", "16M")], ids=str)
def test_a_stream_is_recorded(out: Path, way: str, more: tuple[str, ...]) -> None:
    data = os.urandom(8 * MIB + 1000)
    with Recv(out, way, *more) as recv:
        with recv.connect() as sock:
            assert send(sock, data)
        [stats] = recv.finish()
    assert digest_of(*stats["files"]) == digest(data)
    assert len(stats["files"]) == (9 if "--split-size" in more else 1)
    assert stats["synced_bytes"] == stats["position"] == len(data)
    if way == "--no-direct":
        assert stats["copied_bytes"] == 0


@WAYS
def test_killed_and_resumed(out: Path, way: str) -> None:
    data = os.urandom(8 * MIB)
    with Recv(out, way) as recv, recv.connect() as sock:
        sock.sendall(data[: 4 * MIB])
        until(lambda: out.stat().st_size >= MIB, "nothing is written", patience_s=START_S)
        recv.process.kill()
        recv.process.wait(START_S)
    kept = out.stat().st_size
    assert out.read_bytes() == data[:kept]
    CARD.queue_free()
    with Recv(out, way, "--resume") as recv:
        begins = int(recv.line("goes on at byte").split(" byte ")[1].split()[0])
        assert kept - 4096 < begins <= kept
        with recv.connect() as sock:
            assert send(sock, data[begins:])
        [stats] = recv.finish()
    assert stats["begun_at"] == begins
    assert digest_of(out) == digest(data)


def test_ended_by_a_signal(out: Path) -> None:
    data = os.urandom(2 * MIB)
    with Recv(out) as recv, recv.connect() as sock:
        sock.sendall(data)
        until(lambda: out.stat().st_size == len(data), "it is not written", patience_s=START_S)
        recv.process.send_signal(signal.SIGTERM)
        [stats] = recv.finish(128 + signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert (stats["whole"], stats["synced_bytes"]) == (False, len(data))
    assert out.read_bytes() == data


def test_a_peer_that_resets_is_not_whole(out: Path) -> None:
    with Recv(out) as recv:
        with recv.connect() as sock:
            sock.sendall(b"x" * 100_000)
            until(lambda: out.stat().st_size == 100_000, "it is not written", patience_s=START_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        [stats] = recv.finish(1)
    assert (stats["whole"], stats["synced_bytes"]) == (False, 100_000)
    assert "ECONNRESET" in stats["error"]


@WAYS
def test_a_full_file_system(tmp_path: Path, way: str) -> None:
    data = os.urandom(6 * MIB)
    with disk(tmp_path, 12) as small:
        small.fill(2 * MIB)
        out = small.folder / "out"
        with Recv(out, way) as recv:
            with recv.connect() as sock:
                assert not send(sock, data)
            [stats] = recv.finish(1)
        assert "ENOSPC: the file system is full" in stats["error"]
        right = stats["synced_bytes"]
        # Of a direct write that fails, and after an fdatasync() that fails, nothing new counts.
        assert 0 <= right <= 2 * MIB
        small.forget()
        assert out.read_bytes() == data[:right]
        small.empty()
        CARD.queue_free()
        with Recv(out, way, "--resume") as recv:
            begins = int(recv.line("goes on at byte").split(" byte ")[1].split()[0])
            assert begins == (right // 4096 * 4096 if way == "--direct" else right)
            with recv.connect() as sock:
                assert send(sock, data[begins:])
            recv.finish()
        assert digest_of(out) == digest(data)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("/var/tmp", "ENOSPC: the file system is full"),
        ("disk", "EOPNOTSUPP: the file system cannot set room aside"),  # ext2 cannot
    ],
)
def test_room_that_is_not_there_is_told_at_once(tmp_path: Path, there: str, said: str) -> None:
    with disk(tmp_path, 12):
        out = tmp_path / there / "zcrx-recv-out"
        done = run("zcrx-recv", "-o", str(out), *CARD.echo_options, "--preallocate", "64G")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "listening" not in done.stderr
        assert not out.exists()


@WAYS
def test_a_disk_that_fails(tmp_path: Path, way: str) -> None:
    data = os.urandom(12 * MIB)
    with disk(tmp_path, 32) as failing:
        out = failing.folder / "out"
        with Recv(out, way, "--sync-size", "1M") as recv:
            with recv.connect() as sock:
                sock.sendall(data[: 2 * MIB])
                until(
                    lambda: out.stat().st_size >= 2 * MIB, "it is not written", patience_s=START_S
                )
                failing.fail(but=out)
                assert not send(sock, data[2 * MIB :])
            [stats] = recv.finish(1)
        assert "EIO: the disk failed" in stats["error"]
        right = stats["synced_bytes"]
        assert MIB <= right <= 2 * MIB
        failing.repair()
        failing.forget()
        assert out.read_bytes() == data[:right]
        CARD.queue_free()
        with Recv(out, way, "--resume") as recv:
            begins = int(recv.line("goes on at byte").split(" byte ")[1].split()[0])
            with recv.connect() as sock:
                assert send(sock, data[begins:])
            recv.finish()
        failing.forget()
        assert digest_of(out) == digest(data)


@WAYS
def test_streams_go_to_files_of_their_own(out: Path, way: str) -> None:
    streams = [os.urandom(1 + i * 7919 % (512 << 10)) for i in range(16)]
    with Recv(out, way, "-j", "16") as recv:
        socks = []
        for _ in streams:  # files are in the order of arrival
            socks.append(recv.connect())
        with ThreadPoolExecutor(len(streams)) as pool:
            assert all(pool.map(send, socks, streams))
        for sock in socks:
            sock.close()
        found = recv.finish()
    assert [digest_of(*stats["files"]) for stats in found] == [digest(data) for data in streams]


def test_a_disk_that_blocks_stops_the_senders(out: Path) -> None:
    """Stopped, the recorder is as one whose write does not return."""
    streams = [os.urandom(MIB) for _ in range(16)]
    with Recv(out, "-j", "16", "--area", "8M") as recv:
        starved = CARD.without_area() if isinstance(CARD, Pair) else 0
        socks = [CARD.socket() for _ in streams]
        for sock in socks:
            sock.settimeout(START_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            sock.connect((CARD.server, recv.port))
        until(
            lambda: sum(" from " in line for line in recv.lines) == len(streams),
            "not all are accepted",
            patience_s=START_S,
        )
        recv.process.send_signal(signal.SIGSTOP)
        sent = [0] * len(streams)
        for i, sock in enumerate(socks):
            sock.settimeout(0.2)
            with suppress(TimeoutError):
                while sent[i] < len(streams[i]):
                    sent[i] += sock.send(streams[i][sent[i] : sent[i] + (1 << 14)])
            sock.settimeout(START_S)
        assert max(sent) < MIB
        recv.process.send_signal(signal.SIGCONT)
        with ThreadPoolExecutor(len(streams)) as pool:
            rests = [data[at:] for data, at in zip(streams, sent, strict=True)]
            assert all(pool.map(send, socks, rests))
        found = recv.finish()
        if isinstance(CARD, Pair):
            assert CARD.without_area() == starved, "frames found no buffer"
        for sock in socks:
            sock.close()
    assert [digest_of(*stats["files"]) for stats in found] == [digest(data) for data in streams]

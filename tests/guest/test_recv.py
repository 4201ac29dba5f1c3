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
from tests.guest.disk import MIB, small_disk
from tests.guest.program import run
from tests.guest.recv import Recv, go_on, kept, send, send_each
from tests.patience import START_S, until

WAYS = pytest.mark.parametrize("way", ["--direct", "--no-direct"])
SEVERAL = ("-j", "3", "--split-size", "1M")


def streams_of(shape: tuple[str, ...]) -> int:
    return 3 if "-j" in shape else 1


def whole_pages(size: int, way: str) -> int:
    """Where a recording of so many bytes goes on."""
    return size // 4096 * 4096 if way == "--direct" else size


def size_of(out: Path) -> int:
    """Of all files of a recording."""
    return sum(path.stat().st_size for path in out.parent.glob(f"{out.name}*"))


@pytest.fixture
def out() -> Iterator[Path]:
    """A name on the guest's own disk; /tmp is in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder) / "out"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(*paths: str | Path) -> str:
    return digest(b"".join(Path(path).read_bytes() for path in paths))


def two_mib_on_disk(out: Path, socks: list[socket.socket], streams: list[bytes]) -> None:
    """Of each stream; one at least is synced, where the recorder does so each MiB.

    One by one: a turn of the recorder may bring both, and then it has them written before synced.
    """
    for sent in (0, MIB):
        for sock, data in zip(socks, streams, strict=True):
            sock.sendall(data[sent : sent + MIB])
        until(
            lambda: size_of(out) >= (sent + MIB) * len(streams),  # noqa: B023
            "it is not written",
            patience_s=START_S,
        )


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
@pytest.mark.parametrize("shape", [(), SEVERAL], ids=str)
def test_killed_and_resumed(out: Path, way: str, shape: tuple[str, ...]) -> None:
    streams = [os.urandom(6 * MIB + 1000) for _ in range(streams_of(shape))]
    with Recv(out, way, *shape) as recv:
        socks = [recv.connect() for _ in streams]
        with ThreadPoolExecutor(len(socks)) as pool:
            list(pool.map(lambda sock, data: sock.sendall(data[: 3 * MIB]), socks, streams))
        until(
            lambda: size_of(out) >= 2 * MIB * len(streams),
            "it is not written",
            patience_s=START_S,
        )
        recv.process.kill()
        recv.process.wait(START_S)
    for sock in socks:
        sock.close()
    before = kept(out, len(streams))
    assert all(data.startswith(each) for data, each in zip(streams, before, strict=True))
    found = go_on(out, (way, *shape), streams)
    assert [stats["begun_at"] for stats in found] == [whole_pages(len(d), way) for d in before]
    assert [digest_of(*stats["files"]) for stats in found] == [digest(data) for data in streams]


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
@pytest.mark.parametrize(
    ("kind", "shape"), [("ext4", ()), ("ext4", SEVERAL), ("xfs", ()), ("xfs", SEVERAL)], ids=str
)
def test_a_full_file_system(tmp_path: Path, way: str, kind: str, shape: tuple[str, ...]) -> None:
    streams = [os.urandom(5 * MIB + 1000) for _ in range(streams_of(shape))]
    room = 4 * MIB * len(streams) - MIB
    with small_disk(tmp_path, kind) as small:
        small.fill(room)
        out = small.folder / "out"
        with Recv(out, way, *shape) as recv:
            done = send_each([recv.connect() for _ in streams], streams)
            found = recv.finish(1)
        assert [stats["whole"] for stats in found] == done
        assert not all(done)
        for stats in found:
            assert stats["whole"] or "ENOSPC: the file system is full" in stats["error"]
        # Of a direct write that fails, and after an fdatasync() that fails, nothing new counts.
        assert sum(stats["synced_bytes"] for stats in found) <= room
        small.forget()
        before = kept(out, len(streams))
        assert [len(each) for each in before] == [stats["synced_bytes"] for stats in found]
        assert all(data.startswith(each) for data, each in zip(streams, before, strict=True))
        small.empty()
        found = go_on(out, (way, *shape), streams)
        assert [stats["begun_at"] for stats in found] == [whole_pages(len(d), way) for d in before]
        small.forget()
        assert kept(out, len(streams)) == streams


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("/var/tmp", "ENOSPC: the file system is full"),
        ("disk", "EOPNOTSUPP: the file system cannot set room aside"),  # ext2 cannot
    ],
)
def test_room_that_is_not_there_is_told_at_once(tmp_path: Path, there: str, said: str) -> None:
    with small_disk(tmp_path, "ext2"):
        out = tmp_path / there / "zcrx-recv-out"
        done = run("zcrx-recv", "-o", str(out), *CARD.echo_options, "--preallocate", "64G")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "listening" not in done.stderr
        assert not out.exists()


@WAYS
def test_a_disk_that_fails(tmp_path: Path, way: str) -> None:
    """It has bad blocks: the file is cut to what is known to be on disk."""
    data = os.urandom(12 * MIB)
    with small_disk(tmp_path, "ext2") as failing:
        out = failing.folder / "out"
        with Recv(out, way, "--sync-size", "1M") as recv:
            with recv.connect() as sock:
                two_mib_on_disk(out, [sock], [data])
                failing.fail_beyond(out)
                assert not send(sock, data[2 * MIB :])
            [stats] = recv.finish(1)
        assert "EIO: the disk failed" in stats["error"]
        right = stats["synced_bytes"]
        assert MIB <= right <= 2 * MIB
        failing.repair()
        failing.forget()
        assert out.read_bytes() == data[:right]
        go_on(out, (way,), [data])
        failing.forget()
        assert digest_of(out) == digest(data)


@WAYS
@pytest.mark.parametrize(
    ("kind", "shape"), [("ext4", ()), ("ext4", SEVERAL), ("xfs", SEVERAL)], ids=str
)
def test_a_disk_that_is_gone(tmp_path: Path, way: str, kind: str, shape: tuple[str, ...]) -> None:
    """Nothing can be written any more, so no file can be cut; what is claimed is there."""
    streams = [os.urandom(4 * MIB + 1000) for _ in range(streams_of(shape))]
    with small_disk(tmp_path, kind) as failing:
        out = failing.folder / "out"
        with Recv(out, way, "--sync-size", "1M", *shape) as recv:
            socks = [recv.connect() for _ in streams]
            two_mib_on_disk(out, socks, streams)
            failing.fail()
            assert not any(send_each(socks, [data[2 * MIB :] for data in streams]))
            found = recv.finish(1)
        failing.unmount()
        failing.repair()
        failing.mount()
        before = kept(out, len(streams))
        claimed = [stats["synced_bytes"] for stats in found]
        for right, data, each in zip(claimed, streams, before, strict=True):
            assert MIB <= right <= len(each)
            assert data[:right] == each[:right]  # behind it may be what never was written
        found = go_on(out, (way, *shape), streams)
        assert all(stats["begun_at"] <= right for stats, right in zip(found, claimed, strict=True))
        assert [digest_of(*stats["files"]) for stats in found] == [digest(data) for data in streams]


@WAYS
def test_streams_go_to_files_of_their_own(out: Path, way: str) -> None:
    streams = [os.urandom(1 + i * 7919 % (512 << 10)) for i in range(16)]
    with Recv(out, way, "-j", "16") as recv:
        socks = [recv.connect() for _ in streams]
        assert all(send_each(socks, streams))
        found = recv.finish()
    assert [digest_of(*stats["files"]) for stats in found] == [digest(data) for data in streams]


def test_a_disk_that_blocks_stops_the_senders(out: Path) -> None:
    """Stopped, the recorder is as one whose write does not return."""
    streams = [os.urandom(MIB) for _ in range(16)]
    with Recv(out, "-j", "16", "--area", "8M") as recv:
        starved = CARD.without_area() if isinstance(CARD, Pair) else 0
        socks = [recv.connect(sndbuf_bytes=1 << 16) for _ in streams]
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

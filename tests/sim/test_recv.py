"""``zcrx-recv --direct``: from the NIC to the disk without a copy."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.card import Sim, run
from tests.guest.disk import MIB, small_disk, spare_disk
from tests.guest.recv import Recv, send, send_each
from tests.long import rounds
from tests.sim.test_zero_copy import books, grown

WAYS = pytest.mark.parametrize("way", ["--direct", "--no-direct"])


def set_mtu(sim: Sim, mtu: int) -> None:
    for prefix, device in (("ip",), sim.interface), (("ip", "-n", sim.netns), sim.peer):
        run(*prefix, "link", "set", device, "mtu", str(mtu))


@pytest.fixture
def _jumbo(sim: Sim) -> Iterator[None]:
    set_mtu(sim, 9000)
    yield
    set_mtu(sim, 1500)


def lost(sim: Sim) -> int:
    """Frames that our end dropped."""
    folder = Path("/sys/class/net") / sim.interface / "statistics"
    names = ("rx_dropped", "rx_errors", "rx_over_errors", "rx_missed_errors")
    return sum(int((folder / name).read_text()) for name in names)


@pytest.fixture
def out() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder) / "out"


def stream(mib: int) -> Iterator[bytes]:
    """So many MiB and 100 bytes, no two pages alike, without the time that random ones take."""
    base = os.urandom(2 * MIB)
    for i in range(mib):
        yield i.to_bytes(8) + base[8 + i : MIB + i]
    yield base[:100]


def cpu_seconds(pid: int) -> str:
    """What it took so far; nothing if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "CPU unknown"
    user, system = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])
    return f"CPU {user:.2f} s user, {system:.2f} s system"


@pytest.mark.usefixtures("_jumbo")
@WAYS
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_whole_pages_are_not_copied(sim: Sim, tmp_path: Path, kind: str, way: str) -> None:
    """By the recorder. With --no-direct the kernel copies all of them to the page cache."""
    size = rounds(64, 1024) * MIB + 100
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in stream(rounds(64, 1024)):
            digest.update(piece)
            yield piece

    before = books(sim)
    with spare_disk(tmp_path, kind) as disk:
        out = disk.folder / "out"
        with Recv(out, way) as recv:
            began = time.monotonic()
            with recv.connect() as sock:
                assert send(sock, pieces())
                took = f"{time.monotonic() - began:.1f} s, {cpu_seconds(recv.process.pid)}"
            [stats] = recv.finish()
        say = grown(sim, before)
        disk.forget()
        with open(out, "rb") as file:
            assert hashlib.file_digest(file, "sha256").digest() == digest.digest()
    print(f"\n{kind} {way}: {size >> 20} MiB, {stats['copied_bytes']} bytes copied, {took}")
    assert stats["synced_bytes"] == size
    assert (say["page_bytes"], say["linear_bytes"]) == (0, 0)
    assert stats["copied_bytes"] <= size // 1000
    assert not recv.line("warning")


def limited_by_the_window(sock: socket.socket) -> int:
    """For how long the peer's window kept it from sending, in microseconds.

    Kernel: ``net/ipv4/tcp.c:tcp_get_info()``.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 184)
    return int(struct.unpack_from("=Q", info, 176)[0])


@pytest.mark.usefixtures("_jumbo")
@WAYS
def test_a_slow_disk_slows_the_peers(sim: Sim, tmp_path: Path, way: str) -> None:
    """By TCP alone: the NIC drops nothing, and always finds a buffer."""
    streams = [os.urandom(MIB // 2) for _ in range(64)]
    dropped = lost(sim)
    with small_disk(tmp_path, "ext4", size_mib=64, mbps=8) as slow:
        options = (way, "--sync-size", "64K", "--area", "32M", "-j", "64")
        with Recv(slow.folder / "out", *options) as recv:
            socks = [recv.connect() for _ in streams]
            kept = [sock.dup() for sock in socks]
            assert all(send_each(socks, streams))
            limited = sum(limited_by_the_window(sock) for sock in kept)
            for sock in kept:
                sock.close()
            found = recv.finish()
        assert [Path(stats["files"][0]).read_bytes() for stats in found] == streams
    assert limited > 0
    assert lost(sim) == dropped
    assert recv.figures["alloc_failures"] == 0


def test_segments_below_a_page_are_warned_of_once(out: Path) -> None:
    streams = [os.urandom(MIB), os.urandom(MIB)]
    with Recv(out, "--direct", "-j", "2") as recv:
        for data in streams:
            with recv.connect() as sock:
                assert send(sock, data)
        found = recv.finish()
    assert [Path(stats["files"][0]).read_bytes() for stats in found] == streams
    [warning] = [line for line in recv.lines if "warning" in line]
    assert "MTU allows segments of 1448 bytes" in warning
    assert "ip link set DEVICE mtu 4168" in warning

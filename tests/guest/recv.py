"""``zcrx-recv`` as a process, and disks for it: small ones, and one that fails."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.guest.card import CARD, connect
from tests.guest.program import Program
from tests.patience import START_S, until

MIB = 1 << 20
BLOCK = 4096
SECTORS = BLOCK // 512
FIBMAP = 1  # include/uapi/linux/fs.h


class Recv:
    """A running ``zcrx-recv -o`` *out*; it ends by itself, or by the test."""

    def __init__(self, out: Path, *options: str) -> None:
        argv = ("zcrx-recv", "-o", str(out), *CARD.echo_options, "--json", "--port", "0", *options)
        self.process = Program(*argv)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(
            lambda: self.line("listening on") or not self._reader.is_alive(),
            "it does not begin",
            patience_s=START_S,
        )
        assert self.line("listening on"), "".join(self.lines)
        self.port = int(self.line("listening on").split(" port ")[1].split()[0])
        self.streams: list[dict[str, Any]] = []

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)

    def line(self, text: str) -> str:
        """The first that has *text*; empty if none has yet."""
        return next((line for line in self.lines if text in line), "")

    def connect(self) -> socket.socket:
        return connect(self.port)

    def finish(self, status: int = 0) -> list[dict[str, Any]]:
        """Wait for its end, which must be with *status*; gives the figures of each stream."""
        output = self.process.stdout.read()
        ended = self.process.wait(START_S)
        self._reader.join(START_S)
        assert ended == status, "".join(self.lines)
        figures = json.loads(output.splitlines()[-1])
        assert figures["held_buffers"] == 0
        self.streams = figures["streams"]
        return self.streams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(START_S)
        self._reader.join(START_S)
        if error is not None:
            error.add_note("zcrx-recv said: " + "".join(self.lines))
        self.process.close()


def send(sock: socket.socket, data: bytes) -> bool:
    """Send *data* and its end; gives whether the recorder says that it is on disk."""
    try:
        for at in range(0, len(data), 1 << 16):
            sock.sendall(data[at : at + (1 << 16)])
        sock.shutdown(socket.SHUT_WR)
        return sock.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        return False


def blocks_of(path: Path) -> set[int]:
    """The blocks of its device that hold it, written if they were not.

    Kernel: ``fs/ext4/inode.c:ext4_bmap()``.
    """
    found: set[int] = set()
    with open(path, "rb") as file:
        for at in range(-(-path.stat().st_size // BLOCK)):
            answer = fcntl.ioctl(file, FIBMAP, struct.pack("i", at))
            found.update(struct.unpack("i", answer))
    return found - {0}  # a hole


class Disk:
    """A file system of *size_mib* on a device of its own, which can be full, or fail.

    ext2, which the guest has a program for, by the driver of ext4. Kernel:
    ``Documentation/block/null_blk.rst``. No loop device on a small tmpfs: that takes a short
    write below it for a whole one (``drivers/block/loop.c:lo_complete_rq()``).
    """

    NAME = "nullb7"
    CONFIG = Path("/sys/kernel/config")

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self._before = 0  # blocks of the file system itself
        self._size_mib = size_mib
        self._bad: list[str] = []
        self._settings = self.CONFIG / "nullb" / self.NAME
        self.device = Path("/dev") / self.NAME
        subprocess.run(["modprobe", "null_blk", "nr_devices=0"], check=True)
        if not self._settings.parent.exists():
            subprocess.run(["mount", "-t", "configfs", "none", self.CONFIG], check=True)
        self._settings.mkdir()
        for name, value in ("size", size_mib), ("memory_backed", 1), ("power", 1):
            self._set(name, str(value))

    def _set(self, name: str, value: str) -> None:
        (self._settings / name).write_text(value)

    def make(self) -> None:
        """A file system on it."""
        until(self.device.exists, "null_blk makes no device")
        argv = ["busybox", "mke2fs", "-F", "-b", str(BLOCK), str(self.device)]
        subprocess.run(argv, check=True, capture_output=True)

    def mount(self) -> None:
        """Below its folder, while it is empty."""
        subprocess.run(["mount", "-t", "ext4", self.device, self.folder], check=True)
        self._before = self._size_mib * MIB // BLOCK - os.statvfs(self.folder).f_bfree

    def fail(self, *, but: Path) -> None:
        """From now on no block can be written that is free now: EIO.

        Those of the file *but*, which is the only one, and those of the file system itself,
        which lie before all others, can. Where the file's are is up to the kernel, which
        chooses by the size of each write.
        """
        good = sorted({*range(self._before), *blocks_of(but)})
        ends = [*good, self._size_mib * MIB // BLOCK]
        for last, following in pairwise(ends):
            if last + 1 < following:
                self._bad.append(f"{(last + 1) * SECTORS}-{following * SECTORS - 1}")
        for bad in self._bad:
            self._set("badblocks", f"+{bad}")

    def repair(self) -> None:
        """All of it can be written."""
        for bad in self._bad:
            self._set("badblocks", f"-{bad}")
        self._bad.clear()

    def fill(self, left_bytes: int) -> None:
        """Leave no more room than that; :meth:`empty` makes it again."""
        found = os.statvfs(self.folder)
        with open(self.folder / "filler", "wb") as file:
            file.write(bytes(found.f_bfree * found.f_frsize - left_bytes))

    def empty(self) -> None:
        """Make room."""
        (self.folder / "filler").unlink()

    @staticmethod
    def forget() -> None:
        """What is read from now on comes from the device."""
        subprocess.run(["sync"], check=False)
        Path("/proc/sys/vm/drop_caches").write_text("3\n")

    def remove(self) -> None:
        self._set("power", "0")
        self._settings.rmdir()


@contextmanager
def disk(folder: Path, size_mib: int) -> Iterator[Disk]:
    """One that is mounted below *folder*."""
    made = Disk(folder / "disk", size_mib)
    made.folder.mkdir()
    try:
        made.make()
        made.mount()
        try:
            yield made
        finally:
            subprocess.run(["umount", made.folder], check=True)
    finally:
        made.remove()

"""Disks to record on: the guest's spare one; small ones, which are slow, full, or fail."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from tests.patience import until

MIB = 1 << 20
BLOCK = 4096
SECTORS = BLOCK // 512
FIBMAP = 1  # include/uapi/linux/fs.h
SPARE = Path("/dev/vdb")
"""A virtio disk with nothing on it, which every guest has (vm/qemu.py)."""


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
    """A new file system on *device*, mounted at *folder*.

    *kind*: ext4, xfs, or ext2, by the driver of ext4.
    """

    MAKERS: ClassVar[dict[str, tuple[str, ...]]] = {
        "ext2": ("busybox", "mke2fs", "-F", "-b", str(BLOCK)),
        "ext4": ("mke2fs", "-F", "-t", "ext4", "-b", str(BLOCK), "-E", "nodiscard"),
        "xfs": ("mkfs.xfs", "-f", "-K"),
    }

    def __init__(self, device: Path, folder: Path, kind: str) -> None:
        self.device = device
        self.folder = folder
        self.kind = kind

    def make(self) -> None:
        subprocess.run([*self.MAKERS[self.kind], str(self.device)], check=True, capture_output=True)

    def mount(self) -> None:
        driver = "ext4" if self.kind == "ext2" else self.kind
        subprocess.run(["mount", "-t", driver, self.device, self.folder], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=True)

    def fill(self, left_bytes: int) -> None:
        """Leave no more room than that; :meth:`empty` makes it again."""
        found = os.statvfs(self.folder)
        with open(self.folder / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bfree * found.f_frsize - left_bytes)

    def empty(self) -> None:
        """Make room."""
        (self.folder / "filler").unlink()

    @staticmethod
    def forget() -> None:
        """What is read from now on comes from the device."""
        subprocess.run(["sync"], check=False)
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


class SmallDisk(Disk):
    """One in memory of *size_mib*, which can fail; with *mbps* it writes no faster.

    Kernel: ``Documentation/block/null_blk.rst``. No loop device on a small tmpfs: that takes a
    short write below it for a whole one (``drivers/block/loop.c:lo_complete_rq()``).
    """

    MAKERS: ClassVar[dict[str, tuple[str, ...]]] = {
        **Disk.MAKERS,
        "xfs": (*Disk.MAKERS["xfs"], "--unsupported"),  # below 300 MiB
    }
    NAME = "nullb7"
    CONFIG = Path("/sys/kernel/config")

    def __init__(self, folder: Path, kind: str, size_mib: int, mbps: int) -> None:
        super().__init__(Path("/dev") / self.NAME, folder, kind)
        self._before = 0  # blocks of the file system itself
        self._size_mib = size_mib
        self._bad: list[str] = []
        self._settings = self.CONFIG / "nullb" / self.NAME
        subprocess.run(["modprobe", "null_blk", "nr_devices=0"], check=True)
        if not self._settings.parent.exists():
            subprocess.run(["mount", "-t", "configfs", "none", self.CONFIG], check=True)
        self._settings.mkdir()
        for name, value in ("size", size_mib), ("memory_backed", 1), ("mbps", mbps), ("power", 1):
            self._set(name, str(value))
        until(self.device.exists, "null_blk makes no device")

    def _set(self, name: str, value: str) -> None:
        (self._settings / name).write_text(value)

    def mount(self) -> None:
        super().mount()
        self._before = self._size_mib * MIB // BLOCK - os.statvfs(self.folder).f_bfree

    def fail(self) -> None:
        """From now on nothing can be written, nor read: EIO. At most 128 MiB.

        Kernel: ``include/linux/badblocks.h``, ``MAX_BADBLOCKS``, ``BB_MAX_LEN``.
        """
        self._spoil(0, self._size_mib * MIB // 512)

    def fail_beyond(self, file: Path) -> None:
        """From now on no block of an ext2 can be written that is free now: EIO.

        Those of *file*, which is the only one, and those of the file system itself, which lie
        before all others, can. Where the file's are is up to the kernel, which chooses by the
        size of each write.
        """
        assert self.kind == "ext2"
        good = sorted({*range(self._before), *blocks_of(file)})
        for last, following in pairwise([*good, self._size_mib * MIB // BLOCK]):
            if last + 1 < following:
                self._spoil((last + 1) * SECTORS, following * SECTORS)

    def _spoil(self, begin: int, end: int) -> None:
        self._bad.append(f"{begin}-{end - 1}")
        self._set("badblocks", f"+{self._bad[-1]}")

    def repair(self) -> None:
        """All of it can be written."""
        for bad in self._bad:
            self._set("badblocks", f"-{bad}")
        self._bad.clear()

    def remove(self) -> None:
        self._set("power", "0")
        self._settings.rmdir()


@contextmanager
def _mounted(disk: Disk) -> Iterator[None]:
    disk.folder.mkdir()
    disk.make()
    disk.mount()
    try:
        yield
    finally:
        disk.unmount()


@contextmanager
def small_disk(
    folder: Path, kind: str = "ext4", size_mib: int = 32, mbps: int = 0
) -> Iterator[SmallDisk]:
    """One that is mounted below *folder*."""
    if kind == "xfs":
        size_mib = max(size_mib, 96)  # the least that it is made on, and its log
    made = SmallDisk(folder / "disk", kind, size_mib, mbps)
    try:
        with _mounted(made):
            yield made
    finally:
        made.remove()


@contextmanager
def spare_disk(folder: Path, kind: str) -> Iterator[Disk]:
    """The guest's spare disk, with a new file system, mounted below *folder*."""
    made = Disk(SPARE, folder / "disk", kind)
    with _mounted(made):
        yield made

"""How much of an incomplete file is right, kept with it for the one who resumes it."""

from __future__ import annotations

import errno
import os
import struct
import uuid
from contextlib import suppress
from pathlib import Path

from pyzcrx.errors import BadArgument
from pyzcrx.record.system import mount_of

NAME = "user.pyzcrx.synced"
"""Of the file's extended attribute."""
_FORM = struct.Struct("<16sQQ")  # the system's boot, the mount, bytes that are on disk
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NO_MOUNT = 0
_NONE = (errno.ENOTSUP, errno.EPERM, errno.EACCES)
"""The file cannot have one: the file system has none, or it is no regular file, or not ours."""


def right_bytes(fd: int) -> int:
    """So many bytes at the beginning of the file are right. Raises BadArgument, OSError.

    All of them without a mark: then it is complete. All of them also while the file system is
    mounted as it was, whoever was killed. After another boot or mount the file may have bytes
    that never were written, so those that were synced. Kernel 7.3.4:
    ``fs/ext4/inode.c:mpage_map_and_submit_extent()`` sets the size before the data are on disk.
    """
    size = os.fstat(fd).st_size
    try:
        mark = os.getxattr(fd, NAME)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return size
    if len(mark) != _FORM.size:
        raise BadArgument(f"the attribute {NAME} is not pyzcrx's: see what it is, or remove it")
    boot, mount, synced_bytes = _FORM.unpack(mark)
    if mount != _NO_MOUNT and (boot, mount) == _session(fd):
        return size
    return min(size, int(synced_bytes))


def cut_to(fd: int, unit: int) -> int:
    """Cut off what may not be right, and what is behind the last whole *unit*; gives the rest."""
    rest = right_bytes(fd)
    rest -= rest % unit
    if rest != os.fstat(fd).st_size:
        os.ftruncate(fd, rest)
    return rest


def _session(fd: int) -> tuple[bytes, int]:
    """As long as it is the same, the page cache has what was written."""
    return uuid.UUID(_BOOT.read_text().strip()).bytes, mount_of(fd)


class Mark:
    """The mark of the file *fd*, which is being recorded.

    It takes part in no claim: where it cannot be written it stays lower than what is on disk. It
    is on disk by the file's next sync.
    """

    def __init__(self, fd: int, synced_bytes: int) -> None:
        self._fd = fd
        self._session = _session(fd)
        try:
            self._put(self._session, synced_bytes)
        except OSError as error:
            if error.errno not in _NONE:
                raise
            self._is_there = False
        else:
            self._is_there = True

    def _put(self, session: tuple[bytes, int], synced_bytes: int) -> None:
        os.setxattr(self._fd, NAME, _FORM.pack(*session, synced_bytes))

    def move(self, synced_bytes: int) -> None:
        """So many bytes are on disk."""
        if self._is_there:
            with suppress(OSError):
                self._put(self._session, synced_bytes)

    def distrust(self, synced_bytes: int) -> None:
        """No more than that is right, also while the mount is the same: a write failed."""
        if self._is_there:
            with suppress(OSError):
                self._put((self._session[0], _NO_MOUNT), synced_bytes)

    def remove(self) -> None:
        """The file is complete and on disk; so is the mark's end after it. Raises OSError."""
        if self._is_there:
            os.removexattr(self._fd, NAME)
            os.fsync(self._fd)

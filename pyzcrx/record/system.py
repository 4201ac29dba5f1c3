"""Calls to the file system that Python's os module lacks, or that alone do not say all."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from pyzcrx._kernel.memory import PAGE
from pyzcrx.record.plan import Alignment

# include/uapi/linux/fcntl.h, stat.h, falloc.h
_AT_EMPTY_PATH = 0x1000
_STATX_DIOALIGN = 0x2000
_STATX_MNT_ID_UNIQUE = 0x4000
_FALLOC_FL_KEEP_SIZE = 0x01


class _Statx(ctypes.Structure):
    """``struct statx``: what is read of it."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("_1", ctypes.c_uint8 * 140),
        ("mnt_id", ctypes.c_uint64),
        ("dio_mem_align", ctypes.c_uint32),
        ("dio_offset_align", ctypes.c_uint32),
        ("_2", ctypes.c_uint8 * 96),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.statx.argtypes = (
    *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint),
    ctypes.POINTER(_Statx),
)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _statx(fd: int, what: int) -> _Statx:
    found = _Statx()
    _check(_libc.statx(fd, b"", _AT_EMPTY_PATH, what, ctypes.byref(found)))
    return found


def mount_of(fd: int) -> int:
    """Number of the mount that *fd* is on, never used again before the next boot.

    0 where the kernel has none (before Linux 6.8). Raises OSError.
    """
    found = _statx(fd, _STATX_MNT_ID_UNIQUE)
    return found.mnt_id if found.mask & _STATX_MNT_ID_UNIQUE else 0


def direct_alignment(fd: int) -> Alignment | None:
    """What direct I/O on *fd* demands; None: it has none. A page where the kernel does not say."""
    found = _statx(fd, _STATX_DIOALIGN)
    if not found.mask & _STATX_DIOALIGN:
        return Alignment(PAGE, PAGE)
    if not (found.dio_mem_align and found.dio_offset_align):
        return None
    return Alignment(found.dio_mem_align, found.dio_offset_align)


def reserve(fd: int, size_bytes: int) -> None:
    """Have the file system set that much aside; the file's size stays. Raises OSError."""
    _check(_libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size_bytes))


def sync_data(fd: int) -> None:
    """fdatasync() whose success counts, also if the journal has failed. Raises OSError.

    If another file's sync met that failure, fdatasync() can return 0 although bytes are lost. After
    the failure the file system accepts no change, so this sets the file's times: twice, because
    ext4 does not report that the first change fails, but becomes read-only by it.

    Kernel 7.3.4: ``fs/jbd2/journal.c:jbd2_complete_transaction()``, which finds no transaction to
    wait for; ``fs/xfs/xfs_log_cil.c:xlog_cil_force_seq()``, which does not find a checkpoint that
    was aborted.
    """
    os.fdatasync(fd)
    with suppress(PermissionError):  # a file of somebody else's: nothing can be asked
        os.utime(fd)
        os.utime(fd)

"""A file that grows at its end, and what of it is on disk."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from fcntl import F_GETFL, F_SETFL, fcntl
from pathlib import Path

from pyzcrx._kernel._ffi import ffi
from pyzcrx.errors import BadArgument, ClosedError, KernelError
from pyzcrx.record.mark import Mark, cut_to
from pyzcrx.record.plan import ANY, split
from pyzcrx.record.system import direct_alignment, reserve, sync_data

MOST_PIECES = 1024
"""Pieces of one vectored write. Kernel: ``UIO_MAXIOV``."""
GATHER_BYTES = 1 << 20
"""Room for bytes that direct I/O cannot take from where they lie."""
_ADDRESS = ffi.typeof("uintptr_t")

_CAUSES = {
    errno.ENOSPC: ("the file system is full", "make room and resume"),
    errno.EDQUOT: ("the disk quota is used up", "make room and resume"),
    errno.EFBIG: ("the file may not be that large", "raise ulimit -f, or split the file"),
    errno.EOPNOTSUPP: (
        "the file system cannot set room aside",
        "record without preallocation, or to ext4 or XFS",
    ),
    errno.EIO: ("the disk failed", "see dmesg, repair it and resume"),
    errno.EROFS: (
        "the file system is read-only; while it is recorded to, because the disk failed",
        "see dmesg, repair it and resume",
    ),
}


class RecordFailed(KernelError):
    """A file could not be written on.

    ``right_bytes``: so many bytes at its beginning are right and on disk; the file was cut to
    them, where it could be.
    """

    def __init__(
        self, errno: int, operation: str, cause: str = "", hint: str = "", right_bytes: int = 0
    ) -> None:
        super().__init__(errno, operation, cause, hint)
        self.right_bytes = right_bytes

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.operation, self.cause, self.hint, self.right_bytes)


class RecordFile:
    """Appends chunks to *path*, in place from where they lie as far as can be.

    direct: by O_DIRECT; what is not aligned for it is copied and counted. reserve_bytes: have so
    much of the disk set aside first. resume: go on behind what the file has, and cut off what may
    not be right (:mod:`pyzcrx.record.mark`); otherwise a file that exists is refused. One thread
    at a time.

    :meth:`append` only notes a chunk: its memory must stay as it is until :meth:`flush`. Nothing
    is claimed to be on disk but the first ``synced_bytes``. Raises RecordFailed from every
    method; from then on the file takes nothing more.
    """

    def __init__(
        self, path: Path, *, direct: bool = False, reserve_bytes: int = 0, resume: bool = False
    ) -> None:
        self.path = path
        self.copied_bytes = 0
        """Bytes that were copied, since direct I/O could not take them from where they lay."""
        self.synced_bytes = 0
        """So many bytes of the file are right and on disk."""
        self._failure: RecordFailed | None = None
        self._closed = False
        self._alignment = ANY
        self._gather = memoryview(bytearray())
        self._queued = self._used = 0  # in the gather buffer: whole blocks up to, bytes up to
        self._pieces: list[memoryview] = []
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if resume else os.O_EXCL)
        try:
            self._fd = os.open(path, flags, 0o666)
        except FileExistsError:
            raise BadArgument(f"{path} exists; resume it, or remove it") from None
        except OSError as error:
            raise self._error(error, "open") from None
        try:
            self._begin(direct, reserve_bytes)
        except BaseException as error:
            os.close(self._fd)
            if not resume:
                with suppress(OSError):
                    path.unlink()  # it is ours, and has nothing
            if isinstance(error, OSError):
                raise self._error(error, "open") from None
            raise

    def _begin(self, direct: bool, reserve_bytes: int) -> None:
        self._written = self._position = cut_to(self._fd, 1)
        if direct:
            self._go_direct()
        sync_data(self._fd)
        self._mark = Mark(self._fd, self._position)
        os.fsync(self._fd)
        self._sync_folder()
        self.synced_bytes = self._position
        self._reserved = reserve_bytes > self._position
        if self._reserved:
            reserve(self._fd, reserve_bytes)

    def _go_direct(self) -> None:
        alignment = direct_alignment(self._fd)
        if alignment is None:
            raise BadArgument(
                f"{self.path} is on a file system without direct I/O; write it without"
            )
        self._alignment = alignment
        self._gather = memoryview(mmap.mmap(-1, GATHER_BYTES))
        begun = self._position % alignment.block
        self._written -= begun
        self._gather[:begun] = os.pread(self._fd, begun, self._written)
        self._used = begun
        self._set_direct(True)

    def _set_direct(self, direct: bool) -> None:
        flags = fcntl(self._fd, F_GETFL)
        fcntl(self._fd, F_SETFL, flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT)

    def _sync_folder(self) -> None:
        """The name must be on disk as well."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @property
    def position(self) -> int:
        """Bytes of the file, those included that are not written yet."""
        return self._position

    def append(self, chunk: memoryview) -> None:
        """The file's next bytes. *chunk* is bytes, contiguous, and stays until :meth:`flush`."""
        self._check()
        if self._alignment is ANY:
            self._add(chunk)
        else:
            self._append_direct(chunk)
        self._position += len(chunk)

    def _append_direct(self, chunk: memoryview) -> None:
        memory, block = self._alignment
        address = int(ffi.cast(_ADDRESS, ffi.from_buffer(chunk)))
        if chunk and not (address % memory or self._position % block or len(chunk) % block):
            if self._queued != self._used:
                self._queue_gathered()
            self._pieces.append(chunk)  # what split() says, too, in 2.5 times the time
            return
        head, body, _tail = split(self._position, address, len(chunk), self._alignment)
        self._copy(chunk[:head])
        if body:
            self._queue_gathered()
            self._add(chunk[head : head + body])
        self._copy(chunk[head + body :])

    def _add(self, piece: memoryview) -> None:
        if piece:
            self._pieces.append(piece)

    def _copy(self, part: memoryview) -> None:
        self.copied_bytes += len(part)
        while part:
            if self._used == len(self._gather):
                self._write()
            taken = min(len(part), len(self._gather) - self._used)
            self._gather[self._used : self._used + taken] = part[:taken]
            self._used += taken
            part = part[taken:]

    def _queue_gathered(self) -> None:
        """The whole blocks of the gather buffer are pieces too, in their order."""
        whole = self._used - self._used % self._alignment.block
        self._add(self._gather[self._queued : whole])
        self._queued = whole

    def flush(self) -> None:
        """Write all whole blocks; the chunks' memory is the caller's again."""
        self._check()
        self._write()

    def _write(self) -> None:
        self._queue_gathered()
        pieces, self._pieces = self._pieces, []
        try:
            for i in range(0, len(pieces), MOST_PIECES):
                self._write_all(pieces[i : i + MOST_PIECES])
        except OSError as error:
            raise self._fail(error, "write") from None
        begun = self._used - self._queued
        self._gather[:begun] = bytes(self._gather[self._queued : self._used])
        self._queued, self._used = 0, begun

    def _write_all(self, pieces: list[memoryview]) -> None:
        while pieces:
            done = os.pwritev(self._fd, pieces, self._written)
            if not done:
                raise OSError(errno.EIO, "nothing was written")
            self._written += done
            while pieces and done >= len(pieces[0]):
                done -= len(pieces.pop(0))
            if done:
                pieces[0] = pieces[0][done:]

    def sync(self) -> int:
        """Write whole blocks and have them on disk; gives ``synced_bytes``."""
        self.flush()
        try:
            sync_data(self._fd)
        except OSError as error:
            raise self._fail(error, "fdatasync", synced=False) from None
        self.synced_bytes = max(self.synced_bytes, self._written)
        self._mark.move(self.synced_bytes)
        return self.synced_bytes

    def finish(self) -> int:
        """Write all, the last incomplete block too, sync, close; gives the file's bytes."""
        self.flush()
        try:
            if self._used:
                self._set_direct(False)
                self._write_all([self._gather[: self._used]])
                self._used = 0
            if self._reserved:
                os.ftruncate(self._fd, self._position)  # frees what lies behind
        except OSError as error:
            raise self._fail(error, "write") from None
        self.sync()
        try:
            self._mark.remove()
        except OSError as error:
            raise self._fail(error, "fsync", synced=False) from None
        self.close()
        return self.synced_bytes

    def close(self) -> None:
        """Close it as it is. Idempotent."""
        if not self._closed:
            self._closed = True
            self._pieces.clear()
            os.close(self._fd)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClosedError(f"{self.path} was closed")

    def _fail(self, error: OSError, operation: str, *, synced: bool = True) -> RecordFailed:
        """What went wrong, after the file was cut to what is right."""
        if synced:
            # After fdatasync itself failed a second one proves nothing.
            with suppress(OSError):
                sync_data(self._fd)
                self.synced_bytes = max(self.synced_bytes, self._written)
        with suppress(OSError):
            os.ftruncate(self._fd, self.synced_bytes)
            os.fdatasync(self._fd)
        self._mark.distrust(self.synced_bytes)
        self._failure = self._error(error, operation)
        return self._failure

    def _error(self, error: OSError, operation: str) -> RecordFailed:
        number = error.errno or errno.EIO
        cause, hint = _CAUSES.get(number, (os.strerror(number), "see the file's folder and mount"))
        right = f"its first {self.synced_bytes} bytes are right"
        return RecordFailed(
            number, f"{operation} {self.path}", f"{cause}; {right}", hint, self.synced_bytes
        )

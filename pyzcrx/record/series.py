"""One stream's files: one, or with a split size several of that size, in order."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pyzcrx._kernel.memory import PAGE
from pyzcrx.errors import BadArgument
from pyzcrx.record.file import RecordFile
from pyzcrx.record.mark import cut_to

DIGITS = 3
"""Of the number of a part, at least."""


class FileSeries:
    """Appends chunks to *path*, or to PATH.000, PATH.001 and so on, of *split_bytes* each.

    A part is on disk before the next one begins. direct, reserve_bytes (of each file at most its
    own size), resume: as of :class:`RecordFile`; so are the errors, the thread and what becomes of
    chunks. A resumed series goes on in its last part. With *direct* that begins at a page: what is
    behind the last whole page is to be sent again, so that later pages are aligned in the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        split_bytes: int | None = None,
        direct: bool = False,
        reserve_bytes: int = 0,
        resume: bool = False,
    ) -> None:
        if split_bytes is not None and direct and split_bytes % PAGE:
            raise BadArgument(
                f"a split size of {split_bytes} bytes is no multiple of {PAGE}: "
                "direct I/O writes whole pages"
            )
        self.path = path
        self.paths: list[Path] = []
        """The files, in order; those before it was resumed included."""
        self._split_bytes = split_bytes
        self.direct = direct
        """Whether it is written past the page cache."""
        self._reserve_bytes = reserve_bytes
        self._before_bytes = self._copied_bytes = 0  # of the parts before the current one
        if split_bytes is not None:
            self._take_up_parts(split_bytes, resume=resume)
        self.cut_bytes = 0
        """Bytes of a resumed recording that were cut off: they are to be sent again."""
        self._file = self._open(resume=resume)
        self.begun_at = self.position
        """Position of the stream where this recording goes on: 0 unless it was resumed."""

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number:0{DIGITS}}")

    def _take_up_parts(self, split_bytes: int, *, resume: bool) -> None:
        """All parts that are there but for the last, which is opened again."""
        while (part := self._part(len(self.paths))).exists():
            if not resume:
                raise BadArgument(f"{part} exists; resume it, or remove it")
            self.paths.append(part)
        for part in self.paths[:-1]:
            if (size_bytes := part.stat().st_size) != split_bytes:
                raise BadArgument(
                    f"{part} has {size_bytes} bytes: it was not recorded with a split size of "
                    f"{split_bytes}; resume with the one that it was recorded with"
                )
        if self.paths and (size_bytes := self.paths[-1].stat().st_size) > split_bytes:
            raise BadArgument(
                f"{self.paths[-1]} has {size_bytes} bytes, more than the split size of "
                f"{split_bytes}; resume with the one that it was recorded with"
            )
        if self.paths:
            self.paths.pop()
        self._before_bytes = split_bytes * len(self.paths)

    def _open(self, *, resume: bool) -> RecordFile:
        split_bytes = self._split_bytes
        path = self.path if split_bytes is None else self._part(len(self.paths))
        reserve_bytes = self._reserve_bytes
        if split_bytes is not None:
            reserve_bytes = min(reserve_bytes, split_bytes)
        before_bytes = 0
        if resume:
            with suppress(OSError):  # opening it meets the same
                before_bytes = path.stat().st_size
                if self.direct:
                    _cut_to_page(path)
        file = RecordFile(path, direct=self.direct, reserve_bytes=reserve_bytes, resume=resume)
        self.cut_bytes += max(0, before_bytes - file.position)
        self.paths.append(path)
        return file

    @property
    def position(self) -> int:
        """Bytes of the stream, those included that are not written yet."""
        return self._before_bytes + self._file.position

    @property
    def synced_bytes(self) -> int:
        """So many bytes of the stream are right and on disk."""
        return self._before_bytes + self._file.synced_bytes

    @property
    def copied_bytes(self) -> int:
        """Bytes that were copied, since direct I/O could not take them from where they lay."""
        return self._copied_bytes + self._file.copied_bytes

    def append(self, chunk: memoryview) -> None:
        """The stream's next bytes. *chunk* is bytes, contiguous, and stays until :meth:`flush`."""
        if self._split_bytes is not None:
            while len(chunk) > (room := self._split_bytes - self._file.position):
                self._file.append(chunk[:room])
                chunk = chunk[room:]
                self._next()
        self._file.append(chunk)

    def _next(self) -> None:
        """The current part is complete; the next one begins."""
        self._file.finish()
        following = self._open(resume=False)
        self._before_bytes += self._file.synced_bytes
        self._copied_bytes += self._file.copied_bytes
        self._file = following

    def flush(self) -> None:
        """Write all whole blocks; the chunks' memory is the caller's again."""
        self._file.flush()

    def sync(self) -> int:
        """Write whole blocks and have them on disk; gives ``synced_bytes``."""
        self._file.sync()
        return self.synced_bytes

    def finish(self) -> int:
        """Write all, sync, close; gives the stream's bytes."""
        self._file.finish()
        return self.synced_bytes

    def close(self) -> None:
        """Close it as it is. Idempotent."""
        self._file.close()

    def remove_if_unused(self) -> None:
        """Close it. A file that this recording made and nothing came for is removed."""
        self.close()
        if not self.position:
            with suppress(OSError):
                self.paths[-1].unlink()


def _cut_to_page(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        cut_to(fd, PAGE)
    finally:
        os.close(fd)

"""Standard input, output and error of a command: all three open, and no output lost silently."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pyzcrx.errors import ZcrxError


def one_line(text: str) -> str:
    """*text* with its line ends and other control characters escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class OutputLost(ZcrxError):
    """Standard output cannot be written: the disk is full, the reader has left."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.reader_left = error.errno == errno.EPIPE


class _Descriptor(io.FileIO):
    """A descriptor for output. After a failure it swallows the rest.

    So neither a ``finally`` nor the end of Python reports the failure a second time.
    """

    def __init__(self, fd: int, *, raises: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self._raises = raises
        self.lost = False

    def check(self) -> None:
        """Raises OutputLost where a write is known to fail."""
        fd = self.fileno()
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):  # there it would be a message
                os.write(fd, b"")
        except OSError as error:
            raise OutputLost(error) from None
        poll = select.poll()
        poll.register(fd, 0)
        if any(events & select.POLLERR for _, events in poll.poll(0)):  # a pipe without readers
            raise OutputLost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def write(self, data: Any, /) -> int:
        size_bytes = memoryview(data).nbytes
        if self.lost:
            return size_bytes
        try:
            # None: somebody who shares the open file made it non-blocking.
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.lost = True
            if self._raises:
                raise OutputLost(error) from None
            return size_bytes


def _open_missing() -> None:
    """A descriptor that is closed becomes /dev/null; as output it cannot be written: EBADF.

    Otherwise the next file or socket would get its number, and with it our output.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest number: fd


def _text(descriptor: _Descriptor, before: TextIO | None) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",  # names of files and interfaces can hold any byte
        line_buffering=True,
    )


def check_output() -> None:
    """Before long work: raises OutputLost where standard output takes nothing already."""
    descriptor = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(descriptor, _Descriptor):
        descriptor.check()


@contextmanager
def checked_streams() -> Iterator[_Descriptor | None]:
    """Within the block a failed write to standard output raises OutputLost.

    One to standard error changes nothing at once; see ``lost`` of what is given. Streams that
    a test or a caller put in place stay (then None is given).
    """
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        yield None
        return
    before = sys.stdout, sys.stderr
    _open_missing()
    if sys.stdin is None:
        sys.stdin = open(0)  # noqa: SIM115 - as long as the process
    errors = _Descriptor(2, raises=False)
    sys.stdout = _text(_Descriptor(1, raises=True), before[0])
    sys.stderr = _text(errors, before[1])
    try:
        yield errors
    finally:
        sys.stdout, sys.stderr = before

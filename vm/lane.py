"""Work in a process of its own, beside the caller's; its output waits to be asked for."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO, Generic, NoReturn, Self, TextIO, TypeVar

from vm.errors import VmError

T = TypeVar("T")
LOOK_S = 0.2


class Place:
    """One of some places in a folder, alone; free again however its holder ends.

    Entering waits for whichever is free first.
    """

    def __init__(self, folder: str, *names: str) -> None:
        self._paths = [os.path.join(folder, name) for name in names]
        self._fd = -1

    def __enter__(self) -> Self:
        while True:
            for path in self._paths:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(fd)
                else:
                    self._fd = fd
                    return self
            time.sleep(LOOK_S)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # also for children that have inherited it
        os.close(self._fd)


class Lane(Generic[T]):
    """*work* begins at once. What it gives must be fit for pickle. No other thread may run.

    With ``with``, it is ended where nobody asked for its result.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by result()
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _work(work, self._output, self._answer)

    def result(self, stream: TextIO | None = None) -> T:
        """Show the output, so far and as it comes, and give what *work* gave.

        stream: where to; sys.stdout if None.

        Raises VmError where that raised.
        """
        out = sys.stdout if stream is None else stream
        with self._output, self._answer:
            status = None
            at = 0
            while True:
                # Asked before the output is read, so that none is left when it has ended.
                status = self._status() if status is None else status
                text = os.pread(self._output.fileno(), 1 << 20, at)
                at += len(text)
                out.write(text.decode(errors="replace"))
                out.flush()
                if status is None:
                    time.sleep(LOOK_S)
                elif not text:
                    break
            if status:
                raise VmError(f"what ran beside broke off, with status {status}")
            self._answer.seek(0)
            answer: T = pickle.load(self._answer)
            return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid and self._status() is None:
            os.kill(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
        self._output.close()
        self._answer.close()

    def _status(self) -> int | None:
        """How it ended; None: it has not."""
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if not done:
            return None
        self._pid = 0
        return os.waitstatus_to_exitcode(status)


def _work(work: Callable[[], T], output: BinaryIO, answer: BinaryIO) -> NoReturn:
    status = 1
    try:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        pickle.dump(work(), answer)
        answer.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

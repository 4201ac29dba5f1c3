"""pyzcrx's commands as processes, without the price of their start.

Under emulation Python and its imports take seconds, for each of some hundred commands. So
one process pays that once, and each command is a fork of it: a process of its own, with
its own standard streams, descriptors and signals, that calls what the installed script
would call. What is tested of the scripts as they are installed begins them by ``subprocess``.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.patience import START_S

STARTER = Path(__file__).with_name("starter.py")


@cache
def starter() -> socket.socket:
    """What takes requests; begun by the first who asks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", STARTER, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


class Program:
    """A command, begun: what is used here of :class:`subprocess.Popen`, text and pipes."""

    def __init__(self, *argv: str) -> None:
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        self._told, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        message = json.dumps([argv, dict(os.environ), os.getcwd()]).encode()
        with told, open(os.devnull) as nothing:
            fds = [nothing.fileno(), child_out, child_err, told.fileno()]
            socket.send_fds(starter(), [message], fds)
        os.close(child_out)
        os.close(child_err)
        self.stdout: IO[str] = open(out)  # noqa: SIM115 - closed by close()
        self.stderr: IO[str] = open(err)  # noqa: SIM115
        self.returncode: int | None = None
        self._told.settimeout(START_S)
        self.pid = self._hear()

    def _hear(self) -> int:
        data = self._told.recv(4)
        assert data, "the process that starts commands is gone"
        return int(struct.unpack("i", data)[0])

    def poll(self) -> int | None:
        """Its status if it has ended, that of a signal negative."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Its status; raises TimeoutExpired as Popen does."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(self._hear())
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All it says, to its end; raises TimeoutExpired as Popen does."""
        said = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            said[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=each, daemon=True)
            for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        self.wait(timeout)
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes; the command must have ended."""
        self.stdout.close()
        self.stderr.close()
        self._told.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.kill()
        self.wait(START_S)
        self.close()


def run(
    *argv: str, check: bool = False, timeout: float = START_S
) -> subprocess.CompletedProcess[str]:
    """A command to its end, as by :func:`subprocess.run`."""
    with Program(*argv) as program:
        output, errors = program.communicate(timeout)
        done = subprocess.CompletedProcess(argv, program.wait(), output, errors)
    if check:
        done.check_returncode()
    return done

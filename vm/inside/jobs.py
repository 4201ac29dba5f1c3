"""One command in the guest: its process, its streams and their windows."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm.frames import CHUNK, WINDOW, Kind, encode, encode_json

CGROUPS = Path("/sys/fs/cgroup")
Send = Callable[[bytes], None]


class Job:
    """A running command. ``outputs`` and ``stdin`` are the fds the agent's loop watches."""

    def __init__(self, number: int, start: dict[str, Any], send: Send) -> None:
        self.number = number
        self._send = send
        self.kill_at: float | None = None  # when a polite signal becomes SIGKILL
        self.exited = False
        self._pending = bytearray()  # stdin that the command has not taken yet
        self._input_over = False
        self._room = {Kind.OUTPUT: WINDOW, Kind.ERRORS: WINDOW}
        self.outputs: dict[int, Kind] = {}
        self.stdin: int | None = None
        self._cgroup = self._make_cgroup()
        try:
            self.process = self._spawn(start)
        except BaseException:
            self.close()
            raise

    def _make_cgroup(self) -> Path | None:
        """A cgroup of its own, so that no descendant escapes the final kill."""
        path = CGROUPS / f"job-{self.number}"
        try:
            path.mkdir()
        except OSError:
            return None  # a kernel without cgroup2: the process group has to do
        return path

    def _spawn(self, start: dict[str, Any]) -> subprocess.Popen[bytes]:
        terminal = start.get("terminal")
        ours: list[int] = []
        if terminal:
            master, slave = os.openpty()
            _resize(master, *terminal)
            stdin = stdout = stderr = slave
            ours, self.stdin = [master], os.dup(master)
            self.outputs = {master: Kind.OUTPUT}
        else:
            stdin, self.stdin = os.pipe()
            out, stdout = os.pipe()
            err, stderr = os.pipe()
            ours = [out, err]
            self.outputs = {out: Kind.OUTPUT, err: Kind.ERRORS}
        for fd in (*ours, self.stdin):
            os.set_blocking(fd, False)

        def enter() -> None:  # in the child, before exec
            if self._cgroup:
                (self._cgroup / "cgroup.procs").write_text("0")
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            return subprocess.Popen(
                start["argv"],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=start["cwd"],
                env=start["env"],
                start_new_session=True,
                preexec_fn=enter,  # safe: the agent has one thread
            )
        finally:
            for fd in {stdin, stdout, stderr}:
                os.close(fd)

    # stdin

    def feed(self, data: bytes) -> None:
        """Take stdin from the host; nothing means its end."""
        if data:
            self._pending += data
        else:
            self._input_over = True
        self.write_input()

    def write_input(self) -> None:
        """Pass on what the command takes without blocking; ACK it."""
        if self.stdin is None:
            if self._pending:  # nobody will read it: keep the window open
                self._ack_input(len(self._pending))
            self._pending.clear()
            return
        while self._pending:
            try:
                taken = os.write(self.stdin, self._pending[:CHUNK])
            except BlockingIOError:
                return
            except OSError:  # EPIPE, EIO: the command closed its stdin
                self.close_input()
                self.write_input()
                return
            del self._pending[:taken]
            self._ack_input(taken)
        if self._input_over:
            self.close_input()

    def _ack_input(self, count: int) -> None:
        self._send(encode_json(Kind.ACK, self.number, stream=Kind.INPUT, bytes=count))

    @property
    def wants_to_write(self) -> bool:
        return bool(self._pending) and self.stdin is not None

    def close_input(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    # stdout, stderr

    def give_room(self, stream: Kind, count: int) -> None:
        self._room[stream] += count

    def readable(self) -> list[int]:
        """The fds whose window is open."""
        return [fd for fd, kind in self.outputs.items() if self._room[kind] > 0]

    def read_output(self, fd: int) -> bool:
        """Send one piece on; False when there is nothing to read now."""
        kind = self.outputs[fd]
        try:
            data = os.read(fd, min(CHUNK, self._room[kind]))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # EIO is how a terminal says end of file
                raise
            data = b""
        if not data:
            os.close(fd)
            del self.outputs[fd]
            return False
        self._room[kind] -= len(data)
        self._send(encode(kind, self.number, data))
        return True

    def drained(self) -> bool:
        """After the exit: True once all that was written has been sent."""
        for fd in self.readable():
            while self.outputs.get(fd) and self._room[self.outputs[fd]] > 0:
                if not self.read_output(fd):
                    break
            else:
                if fd in self.outputs:
                    return False  # window shut: wait for the host's ACK
        return all(self._room[kind] > 0 for kind in self.outputs.values())

    # life

    def resize(self, rows: int, columns: int) -> None:
        for fd in self.outputs:
            with contextlib.suppress(OSError):
                _resize(fd, rows, columns)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL to every process of the job."""
        if self._cgroup:
            with contextlib.suppress(OSError):
                (self._cgroup / "cgroup.kill").write_text("1")
        if not self.exited:
            self.signal(signal.SIGKILL)

    def close(self) -> None:
        self.close_input()
        for fd in self.outputs:
            os.close(fd)
        self.outputs.clear()

    def forget_cgroup(self) -> bool:
        """Remove the cgroup; False while its last processes are still dying."""
        try:
            if self._cgroup:
                self._cgroup.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True


def _resize(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

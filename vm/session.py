"""A running QEMU and the frames to its agent.

One thread starts QEMU, reads the channel until it ends and reaps QEMU. The death signal
that QEMU gets (setpriv --pdeathsig) is tied to the thread that started it, so that
thread lives exactly as long as the guest. If the signal should miss its moment, the
agent powers off once nobody holds the other end of its port.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable

from vm import host, splat
from vm.console import Console
from vm.errors import BootFailed, HungGuest, KernelSplat, LostGuest, VmError
from vm.frames import GUEST, Decoder, Frame, Kind, LostStep, encode
from vm.process import Process

END_SECONDS = 20.0
BOOT_LINES = 60  # of the console, where a boot failed: a panic's whole report
OWN = "pyzcrx-"
"""Begins what the guest's first process, or its agent, has to say as it ends (vm/inside)."""


class Session:
    """``command(channel fd)`` gives QEMU's argv; ``fds`` are what it inherits besides."""

    def __init__(
        self,
        command: Callable[[int], list[str]],
        fds: list[int],
        console: Console,
        *,
        hang_seconds: float,
    ) -> None:
        self._console = console
        self._hang_seconds = hang_seconds
        self._socket, self._theirs = socket.socketpair()
        self._socket.settimeout(hang_seconds)  # for send; the reader has its own
        self._argv = command(self._theirs.fileno())
        self._fds = [*fds, self._theirs.fileno()]
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._answers: dict[Kind, Frame] = {}  # HELLO and READY
        self._processes: dict[int, Process] = {}
        self._last_number = GUEST
        self._qemu: subprocess.Popen[bytes] | None = None
        self._qemu_said = ""
        self._failure: VmError | None = None  # what wait() and the like shall raise
        self._ended = False  # QEMU is reaped
        self._reader = threading.Thread(target=self._run, name="guest", daemon=True)
        self._reader.start()

    # The thread.

    def _run(self) -> None:
        with tempfile.TemporaryFile() as said:
            try:
                self._qemu = subprocess.Popen(
                    [host.need("setpriv"), "--pdeathsig", "KILL", *self._argv],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    pass_fds=self._fds,
                )
                self._theirs.close()
                self._read()
            except VmError as error:
                self._failure = error
            finally:
                if self._qemu is not None:
                    self._qemu.kill()
                    self._qemu.wait()
                said.seek(0)
                self._qemu_said = said.read().decode(errors="replace").strip()
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
                    processes = list(self._processes.values())
                for process in processes:
                    process.lose()

    def _read(self) -> None:
        """Until the channel ends; counts quiet seconds here, where frames are looked for,
        so that a host that was itself stopped or starved blames no guest."""
        decoder = Decoder()
        reading = self._socket.dup()
        reading.settimeout(1.0)
        quiet = 0.0
        with reading:
            while True:
                try:
                    data = reading.recv(1 << 16)
                except TimeoutError:
                    quiet += 1.0
                    if quiet > self._hang_seconds and Kind.HELLO in self._answers:
                        self._failure = HungGuest(
                            f"the guest gave no sign of life for {quiet:.0f} s",
                            self._console.tail(),
                        )
                        return
                    continue
                except ConnectionResetError:
                    data = b""  # the same end, with something of ours still unread
                quiet = 0.0
                if not data:
                    self._settle()
                    return
                try:
                    for frame in decoder.feed(data):
                        self._dispatch(frame)
                except (LostStep, ValueError) as error:
                    self._failure = LostGuest(f"the agent speaks nonsense: {error}")
                    return

    def _settle(self) -> None:
        """QEMU closed the channel: let it end by itself and finish its log."""
        assert self._qemu is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._qemu.wait(END_SECONDS)

    def _dispatch(self, frame: Frame) -> None:
        with self._changed:
            if frame.job == GUEST:
                self._answers[frame.kind] = frame
                self._changed.notify_all()
                return
            process = self._processes.get(frame.job)
            if frame.kind is Kind.EXIT:
                self._processes.pop(frame.job, None)
        if process:
            process.deliver(frame)

    # For Guest and Process.

    @property
    def pid(self) -> int | None:
        """Of QEMU."""
        return self._qemu.pid if self._qemu else None

    def send(self, frame: bytes) -> None:
        """Quiet when the guest is gone: who waits for an answer hears of it."""
        with self._sending:
            try:
                self._socket.sendall(frame)
            except TimeoutError:
                self._failure = HungGuest(
                    f"the guest took no input for {self._hang_seconds:.0f} s", self._console.tail()
                )
                self.kill()
            except OSError:
                pass

    def answer(self, kind: Kind, seconds: float) -> Frame:
        """The guest's HELLO or READY."""
        with self._changed:
            self._changed.wait_for(lambda: kind in self._answers or self._ended, seconds)
            if frame := self._answers.get(kind):
                return frame
            ended = self._ended
        if self._failure:
            raise self._failure
        if ended:
            cause = self._cause(self._console.judge())
            raise BootFailed(f"the guest did not boot: {cause}", self._console.tail(BOOT_LINES))
        raise BootFailed(f"the guest did not boot within {seconds:.0f} s", self._console.tail())

    def add(self, make: Callable[[int], Process]) -> Process:
        """Register a process under a fresh number."""
        self.check()
        with self._changed:
            self._last_number += 1
            process = self._processes[self._last_number] = make(self._last_number)
            return process

    def check(self) -> None:
        """Raise if the guest is gone."""
        if self._failure:
            raise self._failure
        if not self._ended:
            return
        report = self._console.judge()
        details = report or self._console.tail()
        self._failure = LostGuest(f"the guest is gone: {self._cause(report)}", details)
        raise self._failure

    def _cause(self, report: list[str]) -> str:
        """Why it ended by itself, in a line; *report* is what its kernel complained of last."""
        own = [line for line in self._console.tail(BOOT_LINES) if line.startswith(OWN)]
        if own:
            return own[-1]
        if any("Kernel panic" in line for line in report):
            return f"its kernel panicked: {splat.headline(report)}"
        return self._last_words()

    def _last_words(self) -> str:
        status = self._qemu.returncode if self._qemu else None
        said = f": {self._qemu_said.splitlines()[-1]}" if self._qemu_said else ""
        return f"QEMU ended with status {status}{said}"

    def judge(self, mark: object = None) -> None:
        """Raise KernelSplat for what the kernel complained of since the last time."""
        marked = not isinstance(mark, int) or self._console.wait_for_mark(mark, lambda: self._ended)
        if report := self._console.judge():
            said = f"the guest's kernel complained: {splat.headline(report)}"
            raise KernelSplat(said, report)
        if not marked and not self._ended:
            raise HungGuest(
                "the guest's console is stuck: whether its kernel complained is not known",
                self._console.tail(),
            )

    def end(self) -> None:
        """Power off and wait; kill if that takes too long."""
        self.send(encode(Kind.END))
        self._reader.join(END_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End QEMU at once."""
        if self._qemu is not None and not self._ended:
            self._qemu.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join(END_SECONDS)
            if not self._reader.is_alive():
                self._socket.close()

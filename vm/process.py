# ruff: noqa: A002 - `input` is what subprocess calls it
"""One command in the guest, seen from the host."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vm.errors import CannotExecute, CommandTimeout
from vm.frames import CHUNK, WINDOW, Frame, Kind, encode, encode_json

Sink = Callable[[bytes], object]
GRACE_SECONDS = 5.0  # from TERM to KILL


@dataclass(frozen=True)
class Completed:
    """A finished command. ``returncode`` is -n if signal n ended it."""

    args: Sequence[str]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def exit_status(self) -> int:
        """As a shell says it: 128 + n for signal n."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode


class Link(Protocol):
    """What a process needs of its session."""

    def send(self, frame: bytes) -> None: ...

    def check(self) -> None:
        """Raise if the guest is gone."""

    def judge(self, mark: object) -> None:
        """Raise if the kernel has complained."""


class Process:
    """A running command; made by :meth:`vm.guest.Guest.spawn`.

    Output goes to the sinks, called from a thread of this process; without a sink it is
    collected. A sink that blocks holds up only its own command.
    """

    def __init__(
        self,
        link: Link,
        number: int,
        args: Sequence[str],
        *,
        input: bytes | int | None,
        stdout: Sink | None,
        stderr: Sink | None,
    ) -> None:
        self.args = args
        self._link = link
        self._number = number
        self._changed = threading.Condition()
        self._collected = {Kind.OUTPUT: bytearray(), Kind.ERRORS: bytearray()}
        self._sinks: dict[Kind, Sink] = {
            Kind.OUTPUT: stdout or self._collect(Kind.OUTPUT),
            Kind.ERRORS: stderr or self._collect(Kind.ERRORS),
        }
        self._sink_failure: BaseException | None = None
        self._inbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._input = input
        self._room = WINDOW
        self._exit: dict[str, object] | None = None
        self._lost = False

    def begin(self, *, cwd: str, env: dict[str, str], terminal: tuple[int, int] | None) -> None:
        """Send the order to start, then let the streams run."""
        start = {"argv": [*self.args], "cwd": cwd, "env": env, "terminal": terminal}
        self._link.send(encode_json(Kind.START, self._number, **start))
        threading.Thread(target=self._pump, name=f"guest job {self._number}", daemon=True).start()
        threading.Thread(target=self._feed, daemon=True).start()

    # What the session's reader calls.

    def deliver(self, frame: Frame) -> None:
        if frame.kind is Kind.ACK:
            with self._changed:
                self._room += frame.json()["bytes"]
                self._changed.notify_all()
        else:
            self._inbox.put(frame)

    def lose(self) -> None:
        """The guest is gone: nothing more will come."""
        self._inbox.put(None)

    # Threads of this process.

    def _collect(self, kind: Kind) -> Sink:
        def collect(data: bytes) -> None:
            with self._changed:
                self._collected[kind] += data
                self._changed.notify_all()

        return collect

    def _pump(self) -> None:
        while (frame := self._inbox.get()) is not None and frame.kind is not Kind.EXIT:
            if self._sink_failure is None:
                try:
                    self._sinks[frame.kind](frame.payload)
                except Exception as error:  # e.g. our reader closed the pipe; wait() raises it
                    self._sink_failure = error
                    self.signal(signal.SIGPIPE)
            self._link.send(
                encode_json(Kind.ACK, self._number, stream=frame.kind, bytes=len(frame.payload))
            )
        with self._changed:
            self._exit = frame.json() if frame else None
            self._lost = frame is None
            self._changed.notify_all()

    def _feed(self) -> None:
        if isinstance(self._input, int):
            while data := os.read(self._input, CHUNK):
                if not self._send_input(data):
                    return
        elif self._input:
            for at in range(0, len(self._input), CHUNK):
                if not self._send_input(self._input[at : at + CHUNK]):
                    return
        self._link.send(encode(Kind.INPUT, self._number))

    def _send_input(self, data: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._room >= len(data) or self.over)
            if self.over:
                return False
            self._room -= len(data)
        self._link.send(encode(Kind.INPUT, self._number, data))
        return True

    # What the caller uses.

    @property
    def over(self) -> bool:
        return self._exit is not None or self._lost

    @property
    def stdout(self) -> bytes:
        """Collected so far (empty if a sink takes it)."""
        with self._changed:
            return bytes(self._collected[Kind.OUTPUT])

    @property
    def stderr(self) -> bytes:
        with self._changed:
            return bytes(self._collected[Kind.ERRORS])

    def signal(self, number: int) -> None:
        """To the command's whole process group."""
        self._link.send(encode_json(Kind.SIGNAL, self._number, signal=int(number)))

    def kill(self) -> None:
        """SIGKILL to every descendant, also to those that left the group."""
        self._end(signal.SIGKILL, 0.0)

    def terminate(self, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM to the group, and after the grace SIGKILL to all that is left."""
        self._end(signal.SIGTERM, grace)

    def _end(self, number: int, grace: float) -> None:
        order = encode_json(Kind.SIGNAL, self._number, signal=int(number), grace=grace)
        self._link.send(order)

    def resize(self, rows: int, columns: int) -> None:
        """Of the terminal, if it has one."""
        self._link.send(encode_json(Kind.RESIZE, self._number, rows=rows, columns=columns))

    def wait_for_output(self, text: bytes, timeout: float = 60.0) -> bytes:
        """Until collected stdout or stderr holds ``text``; returns that stream so far."""

        def seen() -> bytes | None:
            return next((bytes(c) for c in self._collected.values() if text in c), None)

        with self._changed:
            self._changed.wait_for(lambda: seen() is not None or self.over, timeout)
            found = seen()
        if found is not None:
            return found
        if self.over:
            self.wait()
        what = "ended" if self.over else f"did not do so within {timeout:g} s"
        message = f"{self.args[0]} was to print {text!r} but {what}"
        raise CommandTimeout(message, self.stdout, self.stderr)

    def wait(self, timeout: float | None = None) -> Completed:
        """Until it ends by itself. Raises CommandTimeout (it is killed first) and the
        guest's own errors: LostGuest, HungGuest, KernelSplat."""
        deadline = None if timeout is None else time.monotonic() + timeout
        in_time = True
        with self._changed:
            # In short slices: an endless wait would not let Ctrl-C through.
            while not self.over:
                if in_time and deadline is not None and time.monotonic() >= deadline:
                    in_time = False
                    self.terminate()
                self._changed.wait(
                    0.5
                    if deadline is None or not in_time
                    else max(0.0, min(0.5, deadline - time.monotonic()))
                )
        self._link.check()
        assert self._exit is not None, "check() raises for a guest that is lost"
        self._link.judge(self._exit.get("mark"))
        if error := self._exit.get("error"):
            raise CannotExecute(
                f"cannot run {self.args[0]!r} in the guest: {error}",
                found=bool(self._exit["found"]),
            )
        if not in_time:
            raise CommandTimeout(
                f"{self.args[0]} did not end within {timeout:g} s and was killed",
                self.stdout,
                self.stderr,
            )
        if self._sink_failure is not None:
            raise self._sink_failure
        status = self._exit["status"]
        assert isinstance(status, int)
        return Completed(self.args, status, self.stdout, self.stderr)

"""Between a command in the guest and the caller's terminal or pipes."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from vm.guest import Guest
from vm.process import Completed, Process

STDIN, STDOUT, STDERR = 0, 1, 2


def run(guest: Guest, argv: Sequence[str], *, timeout: float | None) -> Completed:
    """The command with our own stdin, stdout and stderr, byte for byte.

    A terminal is not passed as stdin: bytes typed at it would wait for a reader that
    may never come. The first Ctrl-C goes to the command, the second ends the guest.
    """
    with _first_interrupt_to_command() as begun:
        process = guest.spawn(
            argv,
            input=None if os.isatty(STDIN) else STDIN,
            stdout=_writer(STDOUT),
            stderr=_writer(STDERR),
        )
        begun(process)
        return process.wait(timeout)


def shell(guest: Guest, argv: Sequence[str], environment: Mapping[str, str]) -> Completed:
    """The command on a terminal of its own that follows ours; needs one here."""
    process = guest.spawn(
        argv,
        input=STDIN,
        env=environment,
        stdout=_writer(STDOUT),
        terminal=_size(),
    )
    with _raw_terminal(), _on(signal.SIGWINCH, lambda: process.resize(*_size())):
        process.resize(*_size())  # it may have changed before the handler was there
        return process.wait()


def _writer(fd: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(STDIN)
    return size.lines, size.columns


@contextmanager
def _on(number: int, action: Callable[[], None]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        action()

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _first_interrupt_to_command() -> Iterator[Callable[[Process], None]]:
    """Gives what is to be told of the command.

    Its output may be seen, and answered by Ctrl-C, before we know that it has begun.
    """
    process: Process | None = None
    due = False

    def pass_on() -> None:
        nonlocal due
        if due and process is not None:
            due = False
            process.signal(signal.SIGINT)

    def interrupted() -> None:
        nonlocal due
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("vm: interrupting the command; once more ends the guest", file=sys.stderr)
        due = True
        pass_on()

    def begun(command: Process) -> None:
        nonlocal process
        process = command
        pass_on()

    with _on(signal.SIGINT, interrupted):
        yield begun


@contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)

"""Between ``vm`` and an external program: ends the whole program when ``vm`` ends.

    keeper.py LIFELINE SIGNAL GRACE [NUMBER=FD]... -- PROGRAM [ARGUMENT]...

LIFELINE is the read end of a pipe whose write end only ``vm`` holds, so it reports the end
of ``vm`` by whatever cause, SIGKILL included. PROGRAM's process group gets SIGNAL then, and
SIGKILL if it stays for GRACE seconds. PROGRAM gets each FD under its NUMBER. Our status is
PROGRAM's, and no descendant of it outlives us.

A program by itself: it imports nothing of ours, so that it starts fast.

Kernel: PR_SET_CHILD_SUBREAPER in prctl(2); /proc/PID/task/TID/children in proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

KILL_S = 10.0
POLL_S = 0.05
ENOUGH = 1024
ABOVE = 200
"""Descriptors wait here until the numbers that they get are free."""
PR_SET_CHILD_SUBREAPER = 36
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOT_EXECUTED = 127


def main(argv: list[str]) -> NoReturn:
    split = argv.index("--")
    lifeline, ending, grace_s = int(argv[0]), int(argv[1]), float(argv[2])
    pairs = (place.split("=") for place in argv[3:split])
    places = {int(number): int(fd) for number, fd in pairs}
    # A descendant that loses its parent becomes our child, be it in a session of its own.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    program = os.fork()
    if program == 0:
        _execute(argv[split + 1 :], places, lifeline)
    with contextlib.suppress(OSError):  # it may have done so by itself, or be gone
        os.setpgid(program, program)
    for place in places.values():
        os.close(place)
    ended = os.pidfd_open(program)
    events = select.poll()  # select() takes no number from 1024 up
    for fd in (ended, lifeline):
        events.register(fd, select.POLLIN)
    if any(fd == ended for fd, _ in events.poll()):
        status = os.waitpid(program, 0)[1]
        _kill_descendants()
    else:
        status = _stop(program, ending, grace_s)
    _end_as(status)


def _execute(argv: list[str], places: dict[int, int], lifeline: int) -> NoReturn:
    """In the child."""
    os.setpgid(0, 0)
    os.close(lifeline)
    for usual in (*IGNORED, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(usual, signal.SIG_DFL)
    try:
        _allow_numbers()
        lifted = {
            number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE) for number, fd in places.items()
        }
        for fd in places.values():
            os.close(fd)
        for number, fd in lifted.items():
            os.dup2(fd, number)
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(NOT_EXECUTED)


def _allow_numbers() -> None:
    """The soft limit may be below the numbers that we need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < ENOUGH:
        enough = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def _stop(program: int, ending: int, grace_s: float) -> int:
    """The signal to all there are, SIGKILL after the grace. What they start to clear up gets no
    signal, unless it loses its parent.
    """
    status = ending
    asked = _descendants()
    _signal(-program, ending)
    for pid in asked:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) != program:
                _signal(pid, ending)
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == program:
                status = how
            if not pid:
                for orphan in _children(os.getpid()) - asked:
                    _signal(orphan, ending)
                    asked.add(orphan)
                time.sleep(POLL_S)
    _kill_descendants()
    return status


def _kill_descendants() -> None:
    """Again and again: they may start others meanwhile."""
    deadline = time.monotonic() + KILL_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            for pid in _descendants():
                _signal(pid, signal.SIGKILL)
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(POLL_S)


def _descendants() -> set[int]:
    found: set[int] = set()
    parents = [os.getpid()]
    while parents:
        children = _children(parents.pop()) - found
        found |= children
        parents += children
    return found


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found |= set(map(int, task.read_text().split()))
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _end_as(status: int) -> NoReturn:
    """With the same status, or by the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])

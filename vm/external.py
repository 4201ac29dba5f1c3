"""External programs: every one ends with us, with all that it started, however we end.

``vm.keeper`` stands between; see there. A program that must not outlive a thread, or that
gets its signals from the terminal, is not run by this: QEMU (vm/session.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vm.errors import VmError

KEEPER = Path(__file__).parent / "keeper.py"
GRACE_S = 30.0
"""mmdebstrap removes a tree of a gigabyte meanwhile."""
INHERITED = 101
"""The first number of the locks that programs inherit."""

_locks: list[int] = []


@contextmanager
def inheriting(lock: int) -> Iterator[None]:
    """Programs started meanwhile hold this lock, too: it is free when all of them are dead."""
    _locks.append(lock)
    try:
        yield
    finally:
        _locks.remove(lock)


@contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    places: Mapping[int, int] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    ending: signal.Signals = signal.SIGTERM,
    grace_s: float = GRACE_S,
    **options: Any,
) -> Iterator[subprocess.Popen[Any]]:
    """The running program; the end of the context ends it. ``places`` maps the numbers of
    descriptors in the program to descriptors of ours. ``ending`` is the signal that asks it to end,
    SIGKILL comes after ``grace_s``. ``options`` are Popen's.
    """
    inherited = {INHERITED + index: lock for index, lock in enumerate(_locks)}
    numbers = {**(places or {}), **inherited}
    theirs, ours = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(KEEPER), str(theirs)),
                    *(str(int(ending)), str(grace_s)),
                    *(f"{number}={fd}" for number, fd in numbers.items()),
                    *("--", *map(str, argv)),
                ],
                stdin=stdin,
                start_new_session=True,
                pass_fds=[theirs, *numbers.values()],
                **options,
            )
        finally:
            os.close(theirs)
        with process:
            try:
                yield process
            finally:
                os.close(ours)
                ours = -1
                process.wait()
    finally:
        if ours >= 0:
            os.close(ours)


def run(
    argv: Sequence[str | Path],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """The program to its end, as ``subprocess.run(check=False)``; see :func:`started`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(argv, **options) as process:
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def report_of(what: str, argv: Sequence[str | Path], **options: Any) -> dict[str, Any]:
    """The JSON that a program writes; VmError with its last line of stderr where it fails.

    what: its name in that error. ``options`` are :func:`run`'s.
    """
    done = run(argv, capture_output=True, **options)
    if done.returncode:
        said = (done.stderr.decode().strip() or "no word of it").splitlines()[-1]
        raise VmError(f"{what} ended with {done.returncode}: {said}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report

"""A process that stays root, reads nothing from the network, and tidies up behind a worker.

:func:`become_worker` forks before anything else is done. The child goes on as the worker: it
registers, drops its privileges (:mod:`pyzcrx.privilege`) and receives. The parent passes
signals on and waits; when the worker is gone, by whatever death, it does what needs
root, and then ends as the worker ended.

Should the parent die first, the worker gets SIGTERM, and what is to be put back is in the
journal of the NIC (``zcrx-nic restore --stale``).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from pyzcrx._kernel._ffi import check, lib
from pyzcrx.errors import UsageError
from pyzcrx.privilege import User, drop

FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_FROM_KERNEL = 0x80
"""si_code of a terminal's Ctrl-C: the worker, of the same process group, has got it too."""


class Worker:
    """The worker's side: still root, until it drops that."""

    def __init__(self, user: User, supervisor: int) -> None:
        """Use :func:`become_worker`."""
        self._user = user
        self._supervisor = supervisor
        self._stay()

    def drop(self) -> None:
        """Become the user for good; errors as in :func:`pyzcrx.privilege.drop`."""
        drop(self._user)
        self._stay()  # a change of user clears it

    def _stay(self) -> None:
        """Get SIGTERM if the supervisor dies."""
        check(lib.pz_die_with_parent(signal.SIGTERM), "follow the supervisor")
        if os.getppid() != self._supervisor:
            signal.raise_signal(signal.SIGTERM)


def become_worker(user: User, put_back: Callable[[int], None]) -> Worker:
    """Fork; returns in the child. The parent never returns: it supervises, and then exits.

    user: what :meth:`Worker.drop` makes the worker. put_back(pid) is called in the parent once
    the worker with that number is gone, in every case. No other thread may run.

    Raises UsageError (threads).
    """
    if threading.active_count() != 1:
        raise UsageError("fork a worker before other threads are started")
    supervisor = os.getpid()
    watched = FORWARDED | {signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, no status would be kept
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid == 0:
        worker = Worker(user, supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return worker
    status = _wait(pid, watched)
    put_back(pid)
    _end_like(status)
    raise AssertionError("not reached")


def _wait(pid: int, watched: frozenset[signal.Signals]) -> int:
    """Pass signals on until the worker is gone; gives its wait status."""
    while True:
        # Reaped only here, so its number is its own until then.
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return status
        info = signal.sigwaitinfo(watched)
        if info.si_signo != signal.SIGCHLD and info.si_code != _FROM_KERNEL:
            with suppress(ProcessLookupError):
                os.kill(pid, info.si_signo)


def _end_like(status: int) -> None:
    """Exit with that status, or by that signal."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        sys.exit(code)
    # The worker has left a core where one is wanted.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)

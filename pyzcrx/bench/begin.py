"""The processes of a run, begun so that none is forgotten and no signal is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess

from pyzcrx._kernel.meanings import typed

_INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM})


def begin(
    begun: list[subprocess.Popen[str]],
    argv: list[str],
    cpu: int | None,
    *,
    stderr: int = subprocess.PIPE,
    fds: tuple[int, ...] = (),
) -> None:
    """Start *argv*, on *cpu* if there is one, as the last of *begun*; its output is piped.

    Signals wait meanwhile. What one raises between the fork and the append would lose the
    process, and what it raises in a hook of ``os.register_at_fork()``, logging's for one,
    is lost itself. It may open as many descriptors as the hard limit allows: with 512
    connections each of pyzcrx's requests has one beside the connection's own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    try:
        begun.append(
            subprocess.Popen(
                argv,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                preexec_fn=prepare,
                pass_fds=fds,
            )
        )
    except OSError as error:
        raise typed(error, "start", argv[0]) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

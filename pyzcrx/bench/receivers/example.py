"""liburing's own example, ``examples/zcrx.c``: a program of others, so measured from outside.

It takes one connection on an interface's queue, and says when it has it and when that ended.
"""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from pyzcrx._kernel._ffi import lib
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.meter import CLOCK_TICK_S
from pyzcrx.errors import ZcrxError

TIMEOUT_S = 60.0
IO_URING_ENTER = 426
_ENDED = re.compile(r"received (\d+), cqes (\d+), nr requeues (\d+)")


class ExampleFailed(ZcrxError):
    """It ended otherwise than it should."""


def example(gate: Gate) -> None:
    """Its figures are of the time from its connection on, by what /proc says of it."""
    process = _started(gate)
    assert process.stdout is not None
    try:
        print(f"listening on {gate.job.host} port {gate.job.port}", file=sys.stderr, flush=True)
        if "accepted" not in process.stdout.readline():
            raise ExampleFailed("it ended without a connection")
        before = _spent(process.pid)
        said = process.stdout.readline()
        after = _spent(process.pid)  # also of one that has ended: we have not waited for it
    finally:
        process.kill()  # newer ones go on with the next connection
    ended = _ENDED.search(said)
    if not ended:
        raise ExampleFailed(said.strip() or f"it ended with status {process.wait()}")
    process.wait()
    size_bytes, chunks, rearms = map(int, ended.groups())
    gate.meter.figures = {
        "bytes": size_bytes,
        "chunks": chunks,
        "turns": 0,
        "rearms": rearms,
        "began_s": before["seconds"],
        **{name: after[name] - before[name] for name in after},
    }


def _started(gate: Gate) -> subprocess.Popen[str]:
    """The program, waiting for its connection."""
    job = gate.job
    assert job.program
    argv = [
        job.program,
        "-p",
        str(job.port),
        "-i",
        str(job.interface),
        "-q",
        str(job.queue),
        "-S",
        str(job.area_bytes),
    ]
    until = time.monotonic() + TIMEOUT_S
    while True:
        process = subprocess.Popen(
            ["stdbuf", "-oL", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # We may be killed ourselves, and it would keep the queue.
            preexec_fn=lambda: lib.pz_die_with_parent(signal.SIGKILL),
        )
        while process.poll() is None:
            if _enters(process.pid):
                return process
            time.sleep(0.01)
        said = process.communicate()[0].strip()
        # The queue may be on its way back from the receiver before.
        if f"ifq(): {-errno.EEXIST}" not in said or time.monotonic() > until:
            raise ExampleFailed(said or f"it ended with status {process.returncode}")
        time.sleep(0.05)


def _enters(pid: int) -> bool:
    """Whether it waits on its ring."""
    try:
        return Path(f"/proc/{pid}/syscall").read_text().startswith(f"{IO_URING_ENTER} ")
    except OSError:  # it has just ended
        return False


def _spent(pid: int) -> dict[str, float]:
    """What it has used so far; CPU in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {
        "seconds": time.monotonic(),
        "user_s": int(fields[11]) * CLOCK_TICK_S,
        "system_s": int(fields[12]) * CLOCK_TICK_S,
        "waits": int(status["voluntary_ctxt_switches"]),
        "preemptions": int(status["nonvoluntary_ctxt_switches"]),
    }

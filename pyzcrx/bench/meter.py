"""What a receiver's process measures of itself, from its first byte to its last."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

CLOCK_TICK_S = 0.01
_CPU_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")


def cpu_times(stat: str) -> dict[str, dict[str, float]]:
    """Seconds of each CPU by kind, from the text of /proc/stat (10 ms ticks)."""
    times = {}
    for line in stat.splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            seconds = [int(tick) * CLOCK_TICK_S for tick in ticks]
            times[name[3:]] = dict(zip(_CPU_FIELDS, seconds, strict=False))
    return times


def _on_cpu_s() -> float:
    """Seconds on a CPU by the scheduler's clock, finer than rusage's ticks."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _peak_kib() -> int:
    """The most memory that was resident, of this program: ru_maxrss knows what ran before exec."""
    found = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


class Meter:
    """Between :meth:`start` and :meth:`stop`."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self.figures: dict[str, Any] = {}

    def payload(self, address: int, size_bytes: int) -> None:
        """Payload will lie there, which this meter has no use for."""

    @staticmethod
    def _now() -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "user_s": usage.ru_utime,
            "system_s": usage.ru_stime,
            "waits": usage.ru_nvcsw,
            "preemptions": usage.ru_nivcsw,
            "page_faults": usage.ru_minflt,
            "python_blocks": sys.getallocatedblocks(),
            "on_cpu_s": _on_cpu_s(),
            "seconds": time.monotonic(),
        }

    def start(self) -> None:
        """The connections are there; payload comes."""
        self._first = self._now()

    def end(self) -> None:
        """All has come: what follows, such as adding figures up, is no part of it."""

    def stop(self, *, size_bytes: int, chunks: int, turns: int, **more: Any) -> None:
        """All has come: *size_bytes* in so many *chunks*, fetched in so many *turns*."""
        self.end()
        now = self._now()
        self.figures = {
            "bytes": size_bytes,
            "chunks": chunks,
            "turns": turns,
            **more,
            **{name: now[name] - self._first[name] for name in now},
            "began_s": self._first["seconds"],
            "peak_kib": _peak_kib(),
        }

    def tell(self) -> None:
        """One line of JSON on standard output."""
        print(json.dumps(self.figures), flush=True)

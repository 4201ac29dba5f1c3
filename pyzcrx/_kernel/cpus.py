"""The CPUs of this machine: which exist, which are online, and why one cannot be used.

sysfs has a folder for each that exists, and in it ``online``, but for one that never goes
offline (``drivers/base/cpu.c:register_cpu()``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from pathlib import Path

from pyzcrx.errors import BadArgument

SYSFS = Path("/sys/devices/system/cpu")


def check_exist(cpus: Iterable[int]) -> None:
    """Raises BadArgument for one that does not exist or is offline, if that can be seen."""
    for cpu in sorted(cpus):
        text = _missing(cpu)
        if text is not None:
            raise BadArgument(text)


def check_allowed(cpus: Iterable[int], allowed: Set[int] | None = None) -> None:
    """Raises BadArgument for one where this thread cannot run: of *allowed*, or its own."""
    allowed = os.sched_getaffinity(0) if allowed is None else allowed
    refused = sorted(set(cpus) - allowed)
    check_exist(refused)
    if refused:
        raise BadArgument(
            f"CPU {refused[0]} is not among those that this process may use "
            f"({text_of(allowed)}); see taskset -p, or the cpuset of its cgroup"
        )


def text_of(cpus: Iterable[int]) -> str:
    """``0,1,3``"""
    return ",".join(map(str, sorted(cpus)))


def _missing(cpu: int) -> str | None:
    online = _online()
    if cpu in online or not online:
        return None
    if (SYSFS / f"cpu{cpu}").exists():
        return (
            f"CPU {cpu} is offline ({text_of(online)} are online); "
            f"echo 1 > {SYSFS}/cpu{cpu}/online, or choose another"
        )
    return f"CPU {cpu} does not exist (online are {text_of(online)}); see lscpu"


def _online() -> set[int]:
    """Empty: it cannot be seen."""
    names = (path.name.removeprefix("cpu") for path in SYSFS.glob("cpu[0-9]*"))
    return {int(name) for name in names if name.isdecimal() and _is_online(name)}


def _is_online(name: str) -> bool:
    try:
        return (SYSFS / f"cpu{name}" / "online").read_text().strip() != "0"
    except OSError:
        return True

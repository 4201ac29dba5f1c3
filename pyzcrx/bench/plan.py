"""What a run of ``zcrx-bench`` is to do, and the set-up that its figures hold for."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyzcrx._ring.pace import MOST_US
from pyzcrx.bench.job import ECHO_BYTES
from pyzcrx.bench.pinning import Pinning, interfaces_in
from pyzcrx.errors import ZcrxError

MIB = 1 << 20


class BenchError(ZcrxError):
    """A run that cannot be done, or came to nothing."""


class SenderFailed(BenchError):
    """The sender did, whatever the receivers have to say of it."""


@dataclass(frozen=True)
class Plan:
    """Receivers, side by side: how often, how much, over what."""

    receivers: tuple[str, ...]
    rounds: int = 5
    size_bytes: int = 256 * MIB
    connections: int = 1
    """Of each queue's receiver."""
    interface: str | None = None
    queues: tuple[int, ...] = (0,)
    """A receiver is a process for each; without an interface they are only numbers."""
    ports: tuple[int, ...] = (0,)
    """Where they listen, one each; 0: any free one."""
    rx_buf_len: int = 0
    area_bytes: int = 64 * MIB
    gather_us: int = MOST_US
    """Of pyzcrx's receivers, see :class:`pyzcrx.Ring`."""
    host: str = "127.0.0.1"
    """Where receivers listen and the sender connects to."""
    netns: str | None = None
    """Where the sender lives."""
    how: str = "sendfile"
    """The sender: iperf3, or a way of ours (:mod:`pyzcrx.bench.send`)."""
    read: bool = False
    short: int = 0
    """Connections that come and go, ``connections`` at a time; 0: those stay."""
    echo_rounds: int = 0
    echo_bytes: int = ECHO_BYTES
    c_receiver: str | None = None
    example: str | None = None
    """liburing's ``examples/zcrx.c``, built."""
    marks: str = ""
    """The module by which receivers mark their runs, from 1, for an emulator that counts."""

    @property
    def connect_to(self) -> str:
        """The host as the sender names it: a link-local address has its own interface there."""
        address, scoped, _ = self.host.partition("%")
        if self.netns is None or not scoped:
            return self.host
        interfaces = interfaces_in(self.netns)
        if len(interfaces) != 1:
            raise BenchError(
                f"{address} is link-local, and {self.netns} has {len(interfaces)} interfaces to "
                "send by; give a --host that is not link-local"
            )
        return f"{address}%{interfaces[0]}"


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _mtu(interface: str) -> int | None:
    try:
        return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    except OSError:
        return None


def setup(plan: Plan, pinning: Pinning) -> dict[str, Any]:
    """All that must be equal before two runs may be compared."""
    interface = plan.interface or "lo"
    driver = Path(f"/sys/class/net/{interface}/device/driver")
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "host_name": socket.gethostname(),
        "python": platform.python_version(),
        "interface": plan.interface or "none (NODEV, loopback)",
        "driver": driver.resolve().name if driver.exists() else "",
        "mtu": _mtu(interface),
        "pinned": pinning.describe(),
        "size_bytes": plan.size_bytes,
        "connections": plan.connections,
        "queues": len(plan.queues),
        "rx_buf_len": plan.rx_buf_len,
        "area_bytes": plan.area_bytes,
        "gather_us": plan.gather_us,
        "sender": plan.how,
        "read": plan.read,
        **({"short": plan.short} if plan.short else {}),
        **({"echo_bytes": plan.echo_bytes} if plan.echo_rounds else {}),
    }

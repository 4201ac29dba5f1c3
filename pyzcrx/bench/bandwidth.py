"""Memory bandwidth, where the machine counts it: by resctrl, or by its memory controllers.

In an emulated guest nothing counts it, and nothing is claimed.

Kernel: Documentation/filesystems/resctrl.rst (mbm_total_bytes),
``arch/x86/events/intel/uncore_snbep.c`` (cas_count_read, cas_count_write).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESCTRL = Path("/sys/fs/resctrl/mon_data")
PMUS = Path("/sys/bus/event_source/devices")
EVENTS = ("cas_count_read", "cas_count_write", "data_reads", "data_writes")
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_ATTR_BYTES = 64  # PERF_ATTR_SIZE_VER0
_MIB = 1 << 20


class Unavailable(Exception):
    """This machine counts no memory traffic that we can read."""


def resctrl_bytes(root: Path = RESCTRL) -> int:
    """Bytes so far over all memory domains; raises Unavailable."""
    files = list(root.glob("mon_L3_*/mbm_total_bytes"))
    if not files:
        raise Unavailable("no resctrl MBM (mount -t resctrl resctrl /sys/fs/resctrl)")
    try:
        return sum(int(file.read_text()) for file in files)
    except (OSError, ValueError) as error:
        raise Unavailable(f"resctrl MBM cannot be read: {error}") from None


def event_config(text: str, formats: dict[str, str]) -> int:
    """The number of an event such as ``event=0x04,umask=0x03`` by the PMU's formats,
    such as ``config:8-15``; raises Unavailable for what it cannot express."""
    config = 0
    for term in text.strip().split(","):
        name, _, value = term.partition("=")
        field, _, bits = formats.get(name, "").strip().partition(":")
        if field != "config" or "," in bits:
            raise Unavailable(f"event term {term!r} is beyond us")
        config |= int(value or "1", 0) << int(bits.partition("-")[0])
    return config


def controllers(root: Path = PMUS) -> Iterator[tuple[int, int, int, float]]:
    """Type, event, CPU and bytes a count of each counter of the memory controllers."""
    for pmu in sorted(root.glob("uncore_imc*")):
        formats = {f.name: f.read_text() for f in (pmu / "format").glob("*")}
        for name in EVENTS:
            event = pmu / "events" / name
            if event.exists():
                scale = float((pmu / "events" / f"{name}.scale").read_text()) * _MIB
                cpus = (pmu / "cpumask").read_text().strip().split(",")
                kind = int((pmu / "type").read_text())
                for cpu in cpus:
                    yield kind, event_config(event.read_text(), formats), int(cpu), scale


def _open(kind: int, config: int, cpu: int) -> int:
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise Unavailable(f"perf_event_open on {platform.machine()} is not known to us")
    attr = struct.pack("<IIQ", kind, _ATTR_BYTES, config).ljust(_ATTR_BYTES, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(ctypes.c_long(number), attr, -1, cpu, -1, ctypes.c_ulong(0))
    if fd < 0:
        raise Unavailable(f"memory controller's counters: {os.strerror(ctypes.get_errno())}")
    return fd


class Traffic:
    """Bytes between the caches and memory, of the whole machine."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        self._counters: list[tuple[int, float]] = []
        try:
            resctrl_bytes()
            self.source = "resctrl MBM"
        except Unavailable as no_resctrl:
            found = list(controllers())
            if not found:
                raise Unavailable(f"{no_resctrl}, no memory controller's counters") from None
            self.source = "memory controllers"
            try:
                for kind, config, cpu, scale in found:
                    self._counters.append((_open(kind, config, cpu), scale))
            except Unavailable:
                self.close()
                raise

    def bytes(self) -> float:
        """So far."""
        if not self._counters:
            return resctrl_bytes()
        counts = [int.from_bytes(os.read(fd, 8), "little") for fd, _ in self._counters]
        return sum(n * scale for n, (_, scale) in zip(counts, self._counters, strict=True))

    def close(self) -> None:
        for fd, _ in self._counters:
            os.close(fd)
        self._counters.clear()


@contextmanager
def counted() -> Iterator[tuple[Traffic | None, str]]:
    """The machine's traffic, or None and why there is none."""
    try:
        traffic = Traffic()
    except Unavailable as error:
        yield None, f"memory bandwidth: {error}"
        return
    try:
        yield traffic, ""
    finally:
        traffic.close()

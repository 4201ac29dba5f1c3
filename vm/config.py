"""What a guest shall be: options, and what can be wrong with them before a boot."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from vm import cache
from vm.errors import InvalidRequest
from vm.kernel import Kernel

DEVICES = Path("/sys/bus/pci/devices")
WHEEL_FOLDER = "/run/pyzcrx/wheel"


def default_cpus() -> int:
    """At least two, for a receiver and a sender; more than four only slow TCG down."""
    return max(2, min(4, os.cpu_count() or 2))


@dataclass(frozen=True)
class Share:
    """A host folder in the guest (9p). Read-only unless asked otherwise."""

    host: Path
    guest: str
    writable: bool = False
    held: cache.Entry | None = None  # keeps the folder while the guest has it

    @classmethod
    def of(cls, entry: cache.Entry, guest: str) -> Share:
        """The folder of something in the cache."""
        return cls(entry.path, guest, held=entry)

    @classmethod
    def parse(cls, text: str) -> Share:
        """``HOST[:GUEST][:rw]``; without GUEST it appears under the host's path."""
        parts = text.split(":")
        mode = parts.pop() if parts[-1] in ("rw", "ro") and len(parts) > 1 else "ro"
        if len(parts) > 2 or not parts[0]:
            raise InvalidRequest(f"share {text!r} is not HOST[:GUEST][:rw]")
        host = Path(parts[0]).expanduser().absolute()
        if not host.is_dir():
            raise InvalidRequest(f"cannot share {host}: no such folder")
        guest = parts[1] if len(parts) == 2 else str(host)
        if not guest.startswith("/") or guest == "/":
            raise InvalidRequest(
                f"share {text!r}: {guest!r} is no absolute path below / in the guest"
            )
        return cls(host, guest, mode == "rw")

    @property
    def mount_options(self) -> str:
        # No cache: a change on either side shows at once on the other.
        return f"trans=virtio,version=9p2000.L,msize=512000,cache=none,{self.access}"

    @property
    def access(self) -> str:
        return "rw" if self.writable else "ro"


@dataclass(frozen=True)
class Config:
    """Everything that ``python -m vm run`` has an option for."""

    kernel: Kernel | None = None  # None: the image's own; see vm/choice.py
    shares: tuple[Share, ...] = ()
    wheel: str = "auto"  # a path, "auto" or "none"
    memory_mib: int = 2048
    cpus: int = field(default_factory=default_cpus)
    append: str = ""
    vfio: tuple[str, ...] = ()
    gve: bool = False  # with a pair of modelled gVNICs
    plugins: tuple[str, ...] = ()  # QEMU TCG plugins: FILE.so[,argument=value]...
    console: Path | None = None
    kvm: bool = True  # try it; False: never
    boot_seconds: float = 240.0
    hang_seconds: float = 120.0  # without a sign of life; heartbeats come every 5


def check_vfio(address: str, devices: Path = DEVICES) -> str:
    """The full address of a PCI device that may be passed through, or why it may not."""
    if re.fullmatch(r"[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]", address):
        address = f"0000:{address}"
    if not re.fullmatch(r"[0-9a-fA-F]{4,}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]", address):
        raise InvalidRequest(f"{address!r} is no PCI address (like 0000:3b:00.0; see lspci -D)")
    device = devices / address
    if not device.exists():
        raise InvalidRequest(f"no PCI device {address} (see lspci -D)")
    if not (device / "iommu_group").exists():
        raise InvalidRequest(
            f"{address} is in no IOMMU group: enable VT-d or AMD-Vi in the firmware and boot"
            " with intel_iommu=on or amd_iommu=on"
        )
    driver = device / "driver"
    name = driver.resolve().name if driver.exists() else "no driver"
    if name != "vfio-pci":
        raise InvalidRequest(
            f"{address} is bound to {name}, not to vfio-pci",
            [
                "To hand it over (its network goes away on the host), as root:",
                "  modprobe vfio-pci",
                f"  echo vfio-pci > {device}/driver_override",
                *([f"  echo {address} > {device}/driver/unbind"] if driver.exists() else []),
                f"  echo {address} > {devices.parent}/drivers_probe",
                "To take it back: echo > driver_override, unbind, and drivers_probe again.",
            ],
        )
    return address

"""The QEMU command line: pure, from what a guest is to be and the fds it gets.

Nothing on disk belongs to a guest: its initramfs is a memfd, its channel a socketpair,
its console an open file, its writes go to QEMU's own unlinked snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm import tsc
from vm.config import Config, Share
from vm.frames import PORT
from vm.gvnics import PORT as GVE_PORT

KVM = ("-accel", "kvm", "-cpu", "host")
# Without erms and fsrm the kernel and libc do not use `rep stosb` and `rep movsb`, which
# TCG runs byte by byte: the difference is 0.5 to 10 seconds at a program's first run. Of this
# vendor's CPUs the kernel uses `rep stosq` and `rep movsq` from family 15 on, as on today's.
TCG = ("-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm,family=15,model=107,stepping=1")

WRITES = "if=virtio,snapshot=on,cache=unsafe"
SPARE = "8G"
"""Of /dev/vdb, an empty disk for tests; what is written there lies in a snapshot too."""

COMMAND_LINE = {
    "console=ttyS0": "the log we read",
    "loglevel=5": "a quiet boot that shows every warning; vm/inside/init raises it to 7",
    "printk.devkmsg=on": "marks and tests write to /dev/kmsg; no rate limit there",
    "panic=-1": "a panic reboots at once, which ends QEMU (-no-reboot)",
    "nokaslr": "equal addresses in every run's traces",
    "mitigations=off": "nothing to protect here, and retpolines are dear under TCG",
    "tsc=reliable": "no clock watchdog: on a busy host it distrusts any clock",
    "damon_stat.enabled=0": "memory statistics nobody reads, for 6% of a CPU",
    "cryptomgr.notests": "emulated vector instructions can fail the kernel's crypto self-tests",
    "no_timer_check": "the APIC timer's self-test fails by chance on a busy host",
    "rcupdate.rcu_cpu_stall_timeout=300": "a virtual CPU may wait long for a real one:",
    "watchdog_thresh=60": "no fault of the kernel, so its watchdogs",
    "sysctl.kernel.hung_task_timeout_secs=600": "get more time,",
    "sysctl.net.core.netdev_unregister_timeout_secs=60": "and what tells of devices that stay",
}


@dataclass(frozen=True)
class Wiring:
    """The open files that QEMU inherits, by number."""

    initramfs: int
    console: int
    channel: int | None = None
    gve: int | None = None
    """Of the modelled NICs, the port by which the guest controls them."""

    @property
    def fds(self) -> list[int]:
        fds = (self.initramfs, self.console, self.channel, self.gve)
        return [fd for fd in fds if fd is not None]


def kernel_command_line(append: str = "") -> str:
    return " ".join([*COMMAND_LINE, *append.split()])


def _clock() -> str:
    khz = tsc.khz()
    return "" if khz is None else f"tsc_early_khz={khz}"


def base(
    kernel: Path,
    wiring: Wiring,
    *,
    program: Sequence[str],
    kvm: bool,
    append: str = "",
) -> list[str]:
    """A machine that can only boot: enough to prove KVM."""
    return [
        *program,
        *("-machine", "q35"),  # PCIe, which real cards expect
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *(KVM if kvm else TCG),
        *("-kernel", str(kernel), "-initrd", f"/proc/self/fd/{wiring.initramfs}"),
        *("-append", kernel_command_line(append if kvm else f"{_clock()} {append}")),
        *("-chardev", f"file,id=console,append=on,path=/proc/self/fd/{wiring.console}"),
        *("-serial", "chardev:console"),
    ]


def command(
    config: Config,
    *,
    kernel: Path,
    disk: Path,
    shares: list[Share],
    wiring: Wiring,
    program: Sequence[str],
    kvm: bool,
    gvnics: Sequence[Path] = (),
) -> list[str]:
    """The whole machine. Share number N has the 9p tag ``shareN``. ``gvnics`` are the sockets of
    modelled NICs.
    """
    argv = [
        *base(kernel, wiring, program=program, kvm=kvm, append=config.append),
        *("-m", str(config.memory_mib), "-smp", str(config.cpus)),
        *("-drive", f"file={_quoted(disk)},format=raw,{WRITES}"),
        *("-drive", f"file.driver=null-co,file.read-zeroes=on,file.size={SPARE},{WRITES}"),
        *("-chardev", f"socket,id=agent,fd={wiring.channel}"),
        *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={PORT}"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng"),
    ]
    for plugin in config.plugins:
        argv += ["-plugin", plugin]
    for number, share in enumerate(shares):
        readonly = "" if share.writable else ",readonly=on"
        argv += [
            "-virtfs",
            f"local,path={_quoted(share.host)},mount_tag=share{number},"
            f"security_model=none,multidevs=remap{readonly}",
        ]
    for number, address in enumerate(config.vfio):
        argv += [
            *("-device", f"pcie-root-port,id=slot{number},chassis={number + 1}"),
            *("-device", f"vfio-pci,host={address},bus=slot{number}"),
        ]
    if gvnics:
        argv += _gve(gvnics, wiring.gve, config.memory_mib)
    return argv


def _gve(nics: Sequence[Path], port: int | None, memory_mib: int) -> list[str]:
    """vfio-user devices, in a memory that their model shares."""
    sockets = [{"type": "unix", "path": str(path)} for path in nics]
    devices = [{"driver": "vfio-user-pci", "socket": each} for each in sockets]
    return [
        *("-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"),
        *("-machine", "memory-backend=memory"),
        *("-chardev", f"socket,id=gve,fd={port}"),
        *("-device", f"virtserialport,chardev=gve,name={GVE_PORT}"),
        *(part for device in devices for part in ("-device", json.dumps(device))),
    ]


def _quoted(path: Path) -> str:
    """A path inside a comma-separated option: QEMU doubles commas."""
    return str(path).replace(",", ",,")

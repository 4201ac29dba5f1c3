"""Is KVM to be trusted here? /dev/kvm that opens proves nothing: a boot does.

The verdict is kept for this boot of the machine, this QEMU and this kernel, and taken
back when a guest under KVM dies before its agent spoke.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from vm import cache, host, qemu
from vm.boot import Boot
from vm.console import Console

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROBE_SECONDS = 10.0
MARKER = "pyzcrx-init: kvm works"


class Verdict:
    """The remembered answer for one kernel and one version of QEMU."""

    def __init__(self, boot_key: str, version: str) -> None:
        name = cache.key(BOOT_ID.read_text(), version, boot_key)
        self._file = cache.root() / "kvm" / name

    def known(self) -> bool | None:
        try:
            return self._file.read_text() == "works"
        except FileNotFoundError:
            return None

    def remember(self, works: bool) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(f".{os.getpid()}")
        fresh.write_text("works" if works else "fails")
        fresh.replace(self._file)


def usable(verdict: Verdict, probe: Callable[[], bool], device: Path = DEVICE) -> bool:
    """Whether to use KVM; probes at most once for each verdict."""
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    known = verdict.known()
    if known is None:
        known = probe()
        verdict.remember(known)
    return known


def probe(boot: Boot, program: Sequence[str]) -> bool:
    """Boot this kernel under KVM as far as its first process; *program* starts QEMU."""
    console = Console()
    initramfs = host.memory_file("initramfs", boot.initramfs())
    try:
        wiring = qemu.Wiring(initramfs, console.fd)
        argv = qemu.base(boot.image, wiring, program=program, kvm=True, append="pyzcrx.probe")
        with host.progress("trying KVM"):
            subprocess.run(
                [host.need("setpriv"), "--pdeathsig", "KILL", *argv, "-m", "512"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=wiring.fds,
                timeout=PROBE_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        pass
    finally:
        os.close(initramfs)
        text = console.text()
        console.close()
    return MARKER in text

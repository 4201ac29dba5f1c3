"""Interrupts: which the NIC has, and to which CPUs they go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pyzcrx._kernel.cpus import check_exist
from pyzcrx._kernel.meanings import typed
from pyzcrx.errors import BadArgument
from pyzcrx.nic.state import Irq

PROC = Path("/proc/irq")
SYSFS = Path("/sys/kernel/irq")


def read(numbers: Iterable[int]) -> tuple[Irq, ...]:
    """Those interrupts, as far as they can be seen."""
    found = (_read(number) for number in sorted(set(numbers)))
    return tuple(irq for irq in found if irq is not None)


def of_device(interface: str) -> tuple[int, ...]:
    """The MSI interrupts of the device below an interface."""
    try:
        names = os.listdir(f"/sys/class/net/{interface}/device/msi_irqs")
    except OSError:
        return ()
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _read(number: int) -> Irq | None:
    cpus = _text(PROC / str(number) / "smp_affinity_list")
    if not cpus:
        return None
    return Irq(
        number=number,
        name=_text(SYSFS / str(number) / "actions"),
        cpus=cpus,
        effective_cpus=_text(PROC / str(number) / "effective_affinity_list"),
    )


def set_affinity(number: int, cpus: str) -> None:
    """Have an interrupt go to those CPUs, ``0-3,8``.

    Raises NotPermitted, InvalidRequest (EINVAL: no such CPU online), KernelError (EIO:
    the kernel keeps it where it is).
    """
    parse_cpus(cpus)
    try:
        (PROC / str(number) / "smp_affinity_list").write_text(cpus)
    except OSError as error:
        raise typed(error, "set IRQ affinity", f"IRQ {number}") from None


def check_cpus(cpus: str | None) -> None:
    """Raises BadArgument for a list that is none, or has a CPU that is not there."""
    if cpus is not None:
        check_exist(parse_cpus(cpus))


def format_cpus(cpus: Iterable[int]) -> str:
    """As the kernel writes them."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def parse_cpus(text: str) -> frozenset[int]:
    """``0-3,8`` as numbers. Raises BadArgument."""
    cpus: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not low <= high < 1 << 16:
            raise BadArgument(f"{text!r} is no list of CPUs; write 0-3,8")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)

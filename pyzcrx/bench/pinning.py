"""Who runs where: receivers, sender, and the NIC's interrupts (with them NAPI)."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from pyzcrx._kernel.cpus import check_allowed

PROC = Path("/proc")


@dataclass
class Pinning:
    """The CPUs; *problems* says what could not be pinned, one line each."""

    receivers: tuple[int | None, ...]
    """One for each of a receiver's processes."""
    sender: int | None
    napi: int | None
    problems: list[str] = field(default_factory=list)
    _before: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def choose(
        cls,
        receiver: int | None = None,
        sender: int | None = None,
        napi: int | None = None,
        processes: int = 1,
    ) -> Pinning:
        """The CPUs asked for, else: the receiver alone on the last, NAPI beside the sender.

        A receiver of several *processes* has that CPU and those before it; when all but
        the sender's are taken, they share. Raises BadArgument for a CPU that we may not
        use.
        """
        allowed = sorted(os.sched_getaffinity(0))
        asked = {cpu for cpu in (receiver, sender, napi) if cpu is not None}
        check_allowed(asked, set(allowed))
        if len(allowed) == 1:
            none = (None,) * processes
            return cls(none, None, None, ["one CPU only: receiver and sender share it"])
        chosen = allowed[-1] if receiver is None else receiver
        others = [cpu for cpu in allowed if cpu != chosen]
        if sender is None:
            sender = others[0]
        free = [cpu for cpu in reversed(others) if cpu not in (sender, napi)]
        own = [chosen, *free][:processes]
        others = [cpu for cpu in others if cpu not in own] or [sender]
        if napi is None:
            napi = others[1] if len(others) > 1 else others[0]
        pinning = cls(tuple(own[i % len(own)] for i in range(processes)), sender, napi)
        if len(own) < processes:
            cpus = ", ".join(map(str, sorted(own)))
            pinning.problems.append(
                f"a receiver's {processes} processes share CPU {cpus}: each has none of its own"
            )
        pinning.problems += [
            f"the receiver is not alone on CPU {cpu}" for cpu in own if cpu in (sender, napi)
        ]
        return pinning

    def pin_interrupts(self, interfaces: list[str]) -> None:
        """Those whose name in /proc/interrupts names one of the interfaces or its device."""
        if self.napi is None:
            return
        names = {*interfaces}
        for interface in interfaces:
            device = Path(f"/sys/class/net/{interface}/device")
            if device.exists():
                names.add(device.resolve().name)
        found = interrupts((PROC / "interrupts").read_text(), names)
        if interfaces and not found:
            self.problems.append(f"no interrupts of {', '.join(interfaces)} in /proc/interrupts")
        for irq, name in found.items():
            path = PROC / "irq" / str(irq) / "smp_affinity_list"
            try:
                self._before.setdefault(path, path.read_text())
                path.write_text(str(self.napi))
            except OSError as error:
                self.problems.append(f"interrupt {irq} ({name}): {error.strerror}")
        for interface in interfaces:
            threaded = Path(f"/sys/class/net/{interface}/threaded")
            if threaded.exists() and threaded.read_text().strip() == "1":
                self.problems.append(f"NAPI of {interface} runs in threads, which are not pinned")

    def restore(self) -> None:
        """The interrupts as they were. When no queue restarts any more: see ``undo_order``."""
        for path, before in self._before.items():
            try:
                path.write_text(before)
            except OSError as error:
                self.problems.append(f"{path}: {error.strerror}")
        self._before.clear()

    def describe(self) -> dict[str, int | list[int | None] | None]:
        """For the set-up."""
        receiver = self.receivers[0] if len(self.receivers) == 1 else list(self.receivers)
        return {"receiver": receiver, "sender": self.sender, "napi": self.napi}


def interrupts(text: str, names: set[str]) -> dict[int, str]:
    """Number and name of each interrupt in a /proc/interrupts *text* that names one of these."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        if number.strip().isdecimal() and rest.split():
            name = rest.split()[-1]
            if any(_names(name, wanted) for wanted in names):
                found[int(number)] = name
    return found


def _names(interrupt: str, wanted: str) -> bool:
    """Whether *wanted* stands in it as a word: eth1 is not in eth10-rx."""
    at = interrupt.find(wanted)
    if at < 0:
        return False
    after = interrupt[at + len(wanted) :][:1]
    before = interrupt[:at][-1:]
    return not after.isalnum() and not before.isalnum()


def interfaces_in(netns: str) -> list[str]:
    """The network interfaces there, but for loopback."""
    argv = ["ip", "-n", netns, "-o", "link"]
    text = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    names = [line.split(":")[1].strip().split("@")[0] for line in text.splitlines()]
    return [name for name in names if name != "lo"]

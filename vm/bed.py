"""What the kernel's selftests run on: the simulated pair, or modelled NICs with a real driver."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vm import gvnics, host, module
from vm.errors import BuildFailed
from vm.guest import Guest

# Without KVM the frames of a burst are far apart: a card's 50 us are so many here.
GRO_IDLE_US = 50_000


class Bed(Protocol):
    """A pair of NICs, zcrx0 under test."""

    def lay_out(self, guest: Guest) -> None:
        """A new pair, in place of the old one if there was one."""

    def counted(self, guest: Guest) -> dict[str, int]:
        """What zcrx0 has received, by where it lies."""


@dataclass(frozen=True)
class Simulated:
    """vm/zcrxsim, with so many queues each."""

    queues: int

    def lay_out(self, guest: Guest) -> None:
        guest.run(["rmmod", "zcrxsim"])
        guest.run(["ip", "netns", "del", "peer"])
        module.set_up(guest.run, f"queues={self.queues}", f"gro_idle_us={GRO_IDLE_US}")

    def counted(self, guest: Guest) -> dict[str, int]:
        text = must(guest, ["ethtool", "-S", "zcrx0"])
        found = dict(re.findall(r"^ *(\w+): (\d+)$", text, re.MULTILINE))
        names = ("rx_zc_bytes", "rx_page_bytes", "rx_linear_bytes")
        return {name: int(found[name]) for name in names}


class Modelled:
    """vm/gve, and the kernel's own driver."""

    def lay_out(self, guest: Guest) -> None:
        guest.run(["rmmod", "gve"])
        guest.run(["ip", "netns", "del", "peer"])
        gvnics.set_up(guest.run)

    def counted(self, guest: Guest) -> dict[str, int]:
        """The payload behind headers that were split off, and the bytes of whole frames."""
        text = must(guest, [f"{gvnics.GUEST_FOLDER}/ask.py", json.dumps({"nic": 0})])
        queues = json.loads(text)["queues"].values()
        names = ("split_bytes", "whole_bytes")
        return {name: sum(each.get(name, 0) for each in queues) for name in names}


def must(guest: Guest, argv: Sequence[str]) -> str:
    """A command that has to work; its stdout."""
    done = guest.run(argv, timeout=300)
    if done.returncode:
        raise BuildFailed(f"{argv[0]} failed in the guest", host.last_lines(done.stderr.decode()))
    return done.stdout.decode()

"""A second pair of simulated cards as the driver leaves them: split auto, RSS default, no rules.

``tests.guest.card.CARD`` is set up by hand once a boot; what sets cards up by itself is
tested on a card that nobody has touched.
"""

from __future__ import annotations

import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pyzcrx import nic
from tests.guest import program
from tests.guest.card import PATIENCE_S, Sim, run
from tests.guest.echo import Echo

DRIVER = Path("/sys/bus/platform/drivers/zcrxsim")


class Kept(Protocol):
    """A card whose settings can be compared."""

    def state(self) -> nic.State: ...


class Fresh(Sim):
    """The first is zcrx2 here, 198.51.100.1, and zcrx3 in namespace "peer"."""

    driver = "zcrxsim"
    channels = "combined"
    split_off = "auto"
    ring_refusal = "a ring has 4 entries at least"
    everything: ClassVar[dict[str, Any]] = {
        "queues": 2,
        "rx_ring": 1024,
        "irq_cpus": "0",
        "napi": {"gro-flush-timeout": 9000},
    }
    """A set-up that has every kind of step."""
    dry_run: ClassVar[tuple[str, ...]] = (
        "ethtool -G {interface} tcp-data-split on",
        "ethtool -X {interface} weight 171 171 170",
    )

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.interface = f"zcrx{2 * number}"
        self.peer = f"zcrx{2 * number + 1}"
        self.net = f"198.51.{99 + number}"
        self.net_v6 = f"2001:db8:{number}:"
        self.server = f"{self.net}.1"
        self.server_v6 = f"{self.net_v6}:1"

    def state(self) -> nic.State:
        return self.settled(nic.read(self.interface))

    def settled(self, state: nic.State) -> nic.State:
        """Without what changes by itself: nothing does."""
        return state

    def tcp_bytes(self, queue: int) -> dict[str, int]:
        """TCP payload that came to a queue, by where the card put it."""
        return {kind: self.counter(f"rx{queue}_{kind}_bytes") for kind in ("zc", "page", "linear")}

    def echo(self, *options: str, port: int = 0) -> Echo:
        """``zcrx-echo`` that sets the card up by itself."""
        return Echo(*options, port=port, card=("-i", self.interface), server=self.server)


def _pairs() -> set[int]:
    return {int(device.name.split(".")[1]) for device in DRIVER.glob("zcrxsim.*")}


@contextmanager
def fresh_pair(queues: int = 4) -> Iterator[Fresh]:
    """Made, and taken away again."""
    before = _pairs()
    (DRIVER / "new_pair").write_text(f"{queues}\n")
    (number,) = _pairs() - before
    card = Fresh(number)
    here, there = ("ip",), ("ip", "-n", card.netns)
    try:
        run("ip", "link", "set", card.peer, "netns", card.netns)
        for ip, device, last in ((here, card.interface, 1), (there, card.peer, 2)):
            run(*ip, "addr", "add", f"{card.net}.{last}/24", "dev", device)
            run(*ip, "addr", "add", f"{card.net_v6}:{last}/64", "dev", device, "nodad")
            # No link-local address that appears only when its check is over.
            run(*ip, "link", "set", device, "addrgenmode", "none")
            run(*ip, "link", "set", device, "up")
        deadline = time.monotonic() + PATIENCE_S
        while not card.state().carrier:
            assert time.monotonic() < deadline, "no carrier"
            time.sleep(0.02)
        yield card
    finally:
        (DRIVER / "del_pair").write_text(f"{number}\n")


@contextmanager
def untouched(card: Kept) -> Iterator[None]:
    """As nobody has set it, and so it must be afterwards; nothing may warn."""
    before = card.state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    was, now = asdict(before), asdict(card.state())
    changed = {name: (value, now[name]) for name, value in was.items() if now[name] != value}
    assert not changed, changed


def zcrx_nic(*options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return program.run("zcrx-nic", *options, check=check, timeout=PATIENCE_S * 4)

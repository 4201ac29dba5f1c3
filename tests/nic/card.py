"""Cards as their drivers leave them, one face for both: simulated, and modelled with gve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pyzcrx import nic
from tests.guest.card import PATIENCE_S, Gve
from tests.guest.echo import Echo
from tests.patience import until
from tests.sim.fresh import Fresh

JOURNALS = Path("/run/pyzcrx/nic")


class Gvnic(Gve):
    """NIC 0 of the model, as ``vm/gve/setup`` leaves it."""

    driver = "gve"
    channels = "rx"
    split_off = "off"  # what undoes `on`: with `auto` the driver leaves it
    ring_refusal = ""  # it says why in the kernel's log only
    everything: ClassVar[dict[str, Any]] = {
        "rx_ring": 512,
        "irq_cpus": "0",
        "napi": {"gro-flush-timeout": 9000},
    }
    """A set-up that has every kind of step that the driver can do."""
    dry_run: ClassVar[tuple[str, ...]] = (
        "ethtool -K {interface} ntuple on",
        "ethtool -G {interface} tcp-data-split on",
        "ethtool -X {interface} weight 43 43 42",
    )

    def state(self) -> nic.State:
        """Each restart of a queue takes the carrier away for a moment. That traffic flows again,
        which :meth:`carrier` waits for, the kernel says a second later.
        """
        here = Path(f"/sys/class/net/{self.interface}/carrier")
        until(lambda: here.read_text() == "1\n", "no carrier", patience_s=PATIENCE_S)
        return self.settled(nic.read(self.interface))

    def settled(self, state: nic.State) -> nic.State:
        """Without what changes by itself: the driver makes its NAPI instances anew whenever its
        rings change, so their numbers say nothing.
        """
        return replace(
            state,
            queues=tuple(replace(each, napi_id=None) for each in state.queues),
            napis=tuple(
                sorted((replace(each, id=0) for each in state.napis), key=lambda n: str(n.irq))
            ),
            irqs=tuple(replace(each, effective_cpus="") for each in state.irqs),
        )

    def tcp_bytes(self, queue: int) -> dict[str, int]:
        split, whole = (self.of_queue(f"{kind}_bytes", queue) for kind in ("split", "whole"))
        return {"zc": split, "page": whole, "linear": 0}

    def echo(self, *options: str, port: int = 0) -> Echo:
        return Echo(*options, port=port, card=("-i", self.interface), server=self.server)


Card = Fresh | Gvnic


def lacks(card: Card, reason: str) -> None:
    """Skip what the driver gve has not, for that reason."""
    if isinstance(card, Gvnic):
        pytest.skip(f"expected: gve {reason}")


def journals() -> list[Path]:
    return sorted(JOURNALS.glob("*/*.*"))

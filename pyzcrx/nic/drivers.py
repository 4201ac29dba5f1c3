"""What the kernel does not tell of single drivers: the one place that goes by a driver's name.

What the kernel does tell (channels, header split, hds-thresh, features) is decided from that.
From Linux 7.3's sources; see docs/how-to/nic.md for where each is from, and what was tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyzcrx._kernel.memory import PAGE
from pyzcrx.nic.settings import Value
from pyzcrx.nic.state import State


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver's ways."""

    since: str | None = None
    """The first kernel in which it has queue operations for zcrx; None: it has none."""
    unable: str = ""
    """Why it has none, where that is known."""
    prelude: tuple[tuple[str, Value], ...] = ()
    """Settings that header split depends on; they come first."""
    notes: tuple[str, ...] = ()
    """What to warn of at each set-up."""
    split_needs: str = ""
    """What a device lacks that reports no header split."""
    fixed_queues: frozenset[int] = frozenset()
    """rx queues that it never restarts, so that nothing can be bound to them (ERANGE)."""
    posting_step: int = 1
    """It shows the NIC new buffers in steps of so many."""
    drops_unsplit: bool = False
    """Whether what the NIC does not split is lost on a bound queue, ARP and ND too."""
    restart: str = ""
    """What the restart of one queue, as at each binding, does to the others."""
    reset: str = ""
    """What a reset of the device does to its settings."""


DRIVERS = {
    "bnxt_en": Driver(since="6.15"),
    "fbnic": Driver(since="6.18"),
    # gve_main.c: gve_header_split_supported(), gve_rx_queue_stop(), gve_rx_queue_start(),
    # gve_reset();
    # gve_rx_dqo.c: gve_rx_post_buffers_dqo(), gve_rx_dqo().
    "gve": Driver(
        since="6.15",
        split_needs="gve has header split in the DQO RDA queue format only, without XDP, on a "
        "machine type whose device offers it (dmesg | grep 'queue format')",
        fixed_queues=frozenset({0}),
        posting_step=32,
        drops_unsplit=True,
        restart="stops all queues and takes the carrier down for a moment",
        reset="loses the rules of gve, which does not set them again",
    ),
    "mlx5_core": Driver(
        since="6.16",
        prelude=(("private-flag:rx_cqe_compress", False), ("feature:rx-gro-hw", True)),
    ),
    "netdevsim": Driver(
        unable="its buffers are not mapped for DMA",
        notes=("netdevsim has the controls of zcrx and cannot receive by it",),
    ),
    "netkit": Driver(notes=("netkit receives on a queue leased from a real NIC",)),
    "virtio_net": Driver(unable="the driver has no queue operations for it"),
    "zcrxsim": Driver(since="6.15"),
}
ABLE = frozenset(name for name, driver in DRIVERS.items() if driver.since)
"""Drivers with queue operations for zcrx."""


def driver_of(state: State) -> Driver:
    """What is known of the NIC's driver."""
    known = DRIVERS.get(state.driver or "")
    if known is not None:
        return known
    return Driver(
        notes=(
            f"driver {state.driver or 'unknown'} is not known for zcrx "
            f"(known: {', '.join(sorted(ABLE))}); registration may be refused",
        )
    )


def prelude(state: State) -> tuple[tuple[str, Value], ...]:
    """The driver's settings that this NIC has."""
    has = {f"private-flag:{name}" for name in state.private_flags}
    has |= {f"feature:{name}" for name in state.features}
    return tuple((key, value) for key, value in driver_of(state).prelude if key in has)


def too_small(state: State, area_bytes: int) -> str | None:
    """Why nothing arrives in an area of that size, until it grows; None: it does."""
    step = driver_of(state).posting_step
    # Where the driver names half a page, it makes two buffers of a page.
    length = min(PAGE, (state.rings and state.rings.rx_buf_len) or PAGE)
    buffers = area_bytes // length
    if buffers >= step:
        return None
    return (
        f"the NIC sees no buffer of an area of {area_bytes} bytes: it has {buffers}, and "
        f"{state.driver} posts them in steps of {step}"
    )

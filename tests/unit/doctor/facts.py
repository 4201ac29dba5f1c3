"""Facts as data: a machine and card where all is well, but for what a test changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyzcrx.doctor import Facts, Finding, examine
from pyzcrx.doctor.facts import Card, HugePages, Kernel, Machine, Memory, Privilege, Wanted
from pyzcrx.nic.state import Rings, Rss
from pyzcrx.probe import Presence, Probe
from pyzcrx.uapi import AreaFlag, CtrlOp, Feature, RegisterFlag
from tests.unit.nic.cards import QUEUES, card

PROBE = Probe(
    kernel="7.3.4",
    liburing="2.15",
    zcrx=Presence.PRESENT,
    permitted=True,
    nodev=True,
    query=True,
    register_flags=RegisterFlag.IMPORT | RegisterFlag.NODEV,
    area_flags=AreaFlag.DMABUF,
    features=Feature.RX_PAGE_SIZE | Feature.EVENT,
    ctrl_ops=tuple(CtrlOp),
    stats=True,
)
CONFIG = dict.fromkeys(("IO_URING", "PAGE_POOL", "INET", "NET_RX_BUSY_POLL", "IO_URING_ZCRX"), "y")
PRIVILEGE = Privilege(
    net_admin=True, ipc_lock=True, sys_admin=True, initial_user_namespace=True, seccomp=False
)
MEMORY = Memory(
    memlock_bytes=None,
    available_bytes=8 << 30,
    page_bytes=4096,
    huge=(HugePages(2 << 20, 64, 64),),
    transparent_huge="madvise",
)
MACHINE = Machine(frozenset(range(4)), {0: frozenset(range(4))})


def rings(**changes: Any) -> Rings:
    """With header split on."""
    fit = Rings(
        rx=512,
        rx_max=4096,
        tx=512,
        tx_max=4096,
        rx_buf_len=None,
        tcp_data_split=True,
        hds_thresh=0,
        hds_thresh_max=1024,
    )
    return replace(fit, **changes)


def on_card(**changes: Any) -> Card:
    """Header split on, RSS kept off the last queue."""
    table = tuple(i % (QUEUES - 1) for i in range(16))
    fit: dict[str, Any] = {"rings": rings(), "rss": (Rss(0, table, "00", 1, 0, {}),)}
    return Card(card(**fit | changes), virtual=False, urgent_cleared=True)


def facts(
    *,
    config: Any = CONFIG,
    io_uring_disabled: int | None = 0,
    probe: dict[str, Any] | None = None,
    **changes: Any,
) -> Facts:
    """A card and machine fit for zcrx, but for *changes*; wanted: the last queue."""
    kernel = Kernel(replace(PROBE, **probe or {}), config, "/proc/config.gz", io_uring_disabled)
    well: dict[str, Any] = {
        "kernel": kernel,
        "privilege": PRIVILEGE,
        "memory": MEMORY,
        "machine": MACHINE,
        "wanted": Wanted(queue=QUEUES - 1),
        "card": on_card(),
    }
    return Facts(**well | changes)


def finding(of: Facts, name: str) -> Finding:
    """The one finding of that id."""
    (found,) = (f for f in examine(of) if f.id == name)
    return found


def names(of: Facts) -> set[str]:
    return {f.id for f in examine(of)}

"""The netdev family: who holds a queue, which NAPI instance serves it, and its settings.

Kernel: ``net/core/netdev-genl.c``.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from pyzcrx.errors import NotSupported
from pyzcrx.nic import tables
from pyzcrx.nic.netlink import Family, packed_uint, uint
from pyzcrx.nic.state import Lease, Napi, Queue
from pyzcrx.nic.tables import NetdevCmd, QueueType

_RETRY_S = 0.02


class Netdev(Family):
    """Raises NoSuchInterface (ENODEV), NotPermitted (EPERM, only by setting)."""

    def __init__(self) -> None:
        super().__init__("netdev")

    def xdp_features(self, ifindex: int) -> int:
        """``NETDEV_XDP_ACT_*``"""
        (found,) = self._get(
            NetdevCmd.DEV_GET, tables.Dev, "NETDEV_A_DEV_IFINDEX", ifindex, dump=False
        )
        return found.get_attr("NETDEV_A_DEV_XDP_FEATURES") or 0

    def queues(self, ifindex: int) -> tuple[Queue, ...]:
        """The receive queues; none while the interface is down."""
        found = self._get(NetdevCmd.QUEUE_GET, tables.Queue, "NETDEV_A_QUEUE_IFINDEX", ifindex)
        rx = (_queue(m) for m in found if m.get_attr("NETDEV_A_QUEUE_TYPE") == QueueType.RX)
        return tuple(sorted(rx, key=lambda queue: queue.index))

    def queue(self, ifindex: int, index: int) -> Queue:
        """One rx queue. Raises InvalidRequest (EINVAL) beyond the last, or ENOENT while down."""
        attributes = [
            ("NETDEV_A_QUEUE_ID", index),
            ("NETDEV_A_QUEUE_IFINDEX", ifindex),
            ("NETDEV_A_QUEUE_TYPE", QueueType.RX),
        ]
        (found,) = self.call(
            NetdevCmd.QUEUE_GET,
            tables.Queue,
            attributes,
            "read queue",
            f"interface {ifindex}, queue {index}",
        )
        return _queue(found)

    def wait_unbound(
        self, ifindex: int, queues: Collection[int], timeout_s: float
    ) -> tuple[int, ...]:
        """Wait until no ifq is bound to any of *queues*; gives those to which one still is."""
        until = time.monotonic() + timeout_s
        while True:
            held = tuple(q.index for q in self.queues(ifindex) if q.index in queues and q.io_uring)
            if not held or time.monotonic() >= until:
                return held
            time.sleep(_RETRY_S)

    def napis(self, ifindex: int) -> tuple[Napi, ...]:
        """The NAPI instances; none while the interface is down."""
        found = self._get(NetdevCmd.NAPI_GET, tables.Napi, "NETDEV_A_NAPI_IFINDEX", ifindex)
        return tuple(sorted(map(_napi, found), key=lambda napi: napi.id))

    def set_napi(
        self,
        napi_id: int,
        *,
        threaded: int | None = None,
        defer_hard_irqs: int | None = None,
        gro_flush_timeout_ns: int | None = None,
        irq_suspend_timeout_ns: int | None = None,
    ) -> None:
        """Change what is given. Raises NotSupported before Linux 6.13."""
        numbers = {
            "GRO_FLUSH_TIMEOUT": gro_flush_timeout_ns,
            "IRQ_SUSPEND_TIMEOUT": irq_suspend_timeout_ns,
            "THREADED": threaded,
        }
        attributes: list[tuple[str, Any]] = [("NETDEV_A_NAPI_ID", napi_id)]
        if defer_hard_irqs is not None:
            attributes.append(("NETDEV_A_NAPI_DEFER_HARD_IRQS", defer_hard_irqs))
        attributes += [
            (f"NETDEV_A_NAPI_{name}", packed_uint(value))
            for name, value in numbers.items()
            if value is not None
        ]
        self.call(NetdevCmd.NAPI_SET, tables.Napi, attributes, "set NAPI", f"NAPI {napi_id}")

    def io_uring_pools(self, ifindex: int) -> int:
        """Page pools of zcrx that are alive on the NIC, also such as are only winding down."""
        try:
            found = self._get(NetdevCmd.PAGE_POOL_GET, tables.PagePool, None, ifindex)
        except NotSupported:
            return 0
        return sum(
            m.get_attr("NETDEV_A_PAGE_POOL_IFINDEX") == ifindex
            and m.get_attr("NETDEV_A_PAGE_POOL_IO_URING") is not None
            for m in found
        )

    def _get(
        self,
        command: NetdevCmd,
        table: Any,
        key: str | None,
        ifindex: int,
        *,
        dump: bool = True,
    ) -> list[Any]:
        what = f"read {command.name.split('_')[0].lower()}"
        attributes = [(key, ifindex)] if key else []
        return self.call(command, table, attributes, what, f"interface {ifindex}", dump=dump)


def _queue(message: Any) -> Queue:
    io_uring = message.get_attr("NETDEV_A_QUEUE_IO_URING")
    lease = message.get_attr("NETDEV_A_QUEUE_LEASE")
    return Queue(
        # 0 where the kernel leaves it out: pyroute2 gives None for that too.
        index=message.get_attr("NETDEV_A_QUEUE_ID") or 0,
        napi_id=message.get_attr("NETDEV_A_QUEUE_NAPI_ID"),
        io_uring=io_uring is not None,
        rx_buf_len=io_uring.get_attr("NETDEV_A_IO_URING_PROVIDER_INFO_RX_BUF_LEN")
        if io_uring is not None
        else None,
        dmabuf=message.get_attr("NETDEV_A_QUEUE_DMABUF"),
        xsk=message.get_attr("NETDEV_A_QUEUE_XSK") is not None,
        lease=None if lease is None else _lease(lease),
    )


def _lease(attributes: Any) -> Lease:
    queue = attributes.get_attr("NETDEV_A_LEASE_QUEUE")
    return Lease(
        ifindex=attributes.get_attr("NETDEV_A_LEASE_IFINDEX") or 0,
        queue=(queue and queue.get_attr("NETDEV_A_QUEUE_ID")) or 0,
        netns_id=attributes.get_attr("NETDEV_A_LEASE_NETNS_ID"),
    )


def _napi(message: Any) -> Napi:
    def number(name: str) -> int:
        return uint(message.get_attr(f"NETDEV_A_NAPI_{name}")) or 0

    return Napi(
        id=message.get_attr("NETDEV_A_NAPI_ID"),
        irq=message.get_attr("NETDEV_A_NAPI_IRQ"),
        pid=message.get_attr("NETDEV_A_NAPI_PID"),
        threaded=number("THREADED"),
        defer_hard_irqs=message.get_attr("NETDEV_A_NAPI_DEFER_HARD_IRQS") or 0,
        gro_flush_timeout_ns=number("GRO_FLUSH_TIMEOUT"),
        irq_suspend_timeout_ns=number("IRQ_SUSPEND_TIMEOUT"),
    )

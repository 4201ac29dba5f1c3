"""What a NIC is set to: plain, frozen data, to JSON and back. Nothing here asks the kernel.

Two states of an untouched NIC are equal, and so is their JSON: no counters, and nothing
that the kernel numbers anew at each change.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Self

from pyzcrx.errors import BadArgument


@dataclass(frozen=True, slots=True)
class Channels:
    """``ethtool -l``; 0 where the NIC has no such kind."""

    combined: int
    combined_max: int
    rx: int
    rx_max: int

    @property
    def rx_queues(self) -> int:
        """Queues that receive: combined ones and those for receive alone."""
        return self.combined + self.rx

    def with_rx_queues(self, wanted: int) -> str | None:
        """The words of ``ethtool -L`` for *wanted* queues that receive; None: too many.

        Of the kind that is in use: drivers have either combined channels or separate ones, or
        take no mixture (gve refuses any change of ``combined``).
        """
        combined = ("combined", self.combined_max, wanted - self.rx)
        separate = ("rx", self.rx_max, wanted - self.combined)
        kinds = (combined, separate) if self.combined or not self.rx else (separate, combined)
        return next((f"{name} {n}" for name, most, n in kinds if 0 < n <= most), None)


@dataclass(frozen=True, slots=True)
class Rings:
    """``ethtool -g``. None: the driver does not say, or has no such setting.

    rx, tx: entries of each ring. rx_max, tx_max: the most that the NIC takes. rx_buf_len: bytes of
    a receive buffer. hds_thresh: payload of more bytes than that is split from its header;
    hds_thresh_max: the most that can be set.
    """

    rx: int | None
    rx_max: int | None
    tx: int | None
    tx_max: int | None
    rx_buf_len: int | None
    tcp_data_split: bool | None
    """What the driver does. What it was told to do cannot be read (see docs/how-to/nic.md)."""
    hds_thresh: int | None
    hds_thresh_max: int | None


@dataclass(frozen=True, slots=True)
class Rss:
    """An RSS context, ``ethtool -x``.

    context: its number; 0 is the NIC's default one. table: the queue of each entry. key: the hash
    key, in hex. hash_function, input_transform: as the kernel numbers them (``ETH_RSS_HASH_*``,
    ``RXH_XFRM_*``).
    """

    context: int
    table: tuple[int, ...]
    key: str
    hash_function: int
    input_transform: int
    fields: dict[str, int]
    """Header fields hashed (``RXH_*``), by kind of flow."""

    def is_default(self, rx_queues: int) -> bool:
        """Whether the table is what the kernel makes of *rx_queues* queues by itself."""
        return self.table == tuple(i % rx_queues for i in range(len(self.table)))


@dataclass(frozen=True, slots=True)
class Rule:
    """An ntuple rule, ``ethtool -n``.

    location: its place in the table. context: the RSS context that spreads its packets; None: none.
    """

    location: int
    queue: int | None
    """The queue, or what is added to the context's; None: matching packets are dropped."""
    context: int | None
    flow: str | None
    """As :class:`pyzcrx.nic.flow.Flow` writes it; None: of a kind that it cannot say."""
    spec: str
    """The kernel's ``ethtool_rx_flow_spec`` without location, in hex."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A queue lent to another net device, such as netkit's.

    ifindex, queue: the queue of that device. netns_id: its network namespace, as ours numbers it;
    None: ours.
    """

    ifindex: int
    queue: int
    netns_id: int | None


@dataclass(frozen=True, slots=True)
class Queue:
    """A receive queue and who holds it.

    index: its number. napi_id: the NAPI instance that serves it; None: none does. io_uring: whether
    zcrx is bound to it. xsk: whether an AF_XDP socket is. lease: to whom it is lent, if it is.
    """

    index: int
    napi_id: int | None
    io_uring: bool
    rx_buf_len: int | None
    """Of the zcrx area on it, where the kernel tells (7.2)."""
    dmabuf: int | None
    """The id of the dmabuf bound to it."""
    xsk: bool
    lease: Lease | None

    @property
    def holder(self) -> str | None:
        """Who has it, in words; None: nobody."""
        if self.io_uring:
            return "io_uring zcrx"
        if self.dmabuf is not None:
            return f"dmabuf {self.dmabuf}"
        if self.xsk:
            return "AF_XDP"
        if self.lease is not None:
            return f"a lease of interface {self.lease.ifindex}, queue {self.lease.queue}"
        return None


@dataclass(frozen=True, slots=True)
class Napi:
    """A NAPI instance and its settings.

    id: its number. irq: its interrupt's number, and pid: its thread's; None: it has none.
    defer_hard_irqs: polls that find nothing before interrupts are on again. gro_flush_timeout_ns:
    how long it waits before such a poll. irq_suspend_timeout_ns: how long interrupts stay off at
    most while a program polls.
    """

    id: int
    irq: int | None
    pid: int | None
    threaded: int
    """0: no, 1: a thread, 2: a thread that polls busily."""
    defer_hard_irqs: int
    gro_flush_timeout_ns: int
    irq_suspend_timeout_ns: int


@dataclass(frozen=True, slots=True)
class Irq:
    """An interrupt of the NIC.

    number, name: as in /proc/interrupts.
    """

    number: int
    name: str
    cpus: str
    """CPUs it may go to, like ``0-3,8``."""
    effective_cpus: str
    """CPUs it does go to."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything of a NIC that zcrx depends on. None: the NIC or kernel has no such thing.

    interface, ifindex: its name and index. up: whether it is set up, carrier: whether its link is.
    mtu: bytes of a packet. addresses: of IPv4 and IPv6. driver, firmware, bus: ``ethtool -i``.
    numa_node: the node that it is attached to. xdp_features: ``NETDEV_XDP_ACT_*``, as a mask.
    channels, rings, features: ``ethtool -l``, ``-g`` and ``-k``. private_flags: those of
    ``ethtool --show-priv-flags``. rss: its RSS contexts. rules: its ntuple rules. queues: those
    that receive. napis, irqs: what serves them.
    """

    interface: str
    ifindex: int
    netns: int
    """The network namespace's inode, as ``ls -L /proc/self/ns/net``."""
    up: bool
    carrier: bool
    mtu: int
    addresses: tuple[str, ...]
    driver: str | None
    firmware: str | None
    bus: str | None
    numa_node: int | None
    xdp_program: int | None
    """Id of an XDP program attached to it."""
    xdp_features: int | None
    channels: Channels | None
    rings: Rings | None
    features: dict[str, bool]
    private_flags: dict[str, bool]
    rss: tuple[Rss, ...]
    rules: tuple[Rule, ...] | None
    rule_slots: int | None
    """Places in the rule table; 0: the driver does not say."""
    queues: tuple[Queue, ...]
    napis: tuple[Napi, ...]
    irqs: tuple[Irq, ...]
    unread: tuple[str, ...] = field(default=())
    """What could not be read, and why."""

    @property
    def rx_queues(self) -> int:
        """How many queues receive; 0: unknown (the interface is down, or the kernel old)."""
        if self.queues:
            return len(self.queues)
        return self.channels.rx_queues if self.channels else 0

    def more_queues(self, wanted: int) -> str | None:
        """The command that gives the NIC *wanted* queues that receive; None: it has not as many."""
        words = self.channels and self.channels.with_rx_queues(wanted)
        return f"ethtool -L {self.interface} {words}" if words else None

    def queue(self, index: int) -> Queue | None:
        """The receive queue of number *index*; None where it cannot be seen."""
        return next((queue for queue in self.queues if queue.index == index), None)

    def napi_of(self, index: int) -> Napi | None:
        """The NAPI instance that serves receive queue *index*; None where it cannot be seen."""
        queue = self.queue(index)
        return next((n for n in self.napis if queue and n.id == queue.napi_id), None)

    def irq_of(self, index: int) -> Irq | None:
        """The interrupt of receive queue *index*; None where it cannot be seen."""
        napi = self.napi_of(index)
        return next((irq for irq in self.irqs if napi and irq.number == napi.irq), None)

    def to_json(self, indent: int | None = None) -> str:
        """All of it as JSON. indent: blanks for each level; None: one line."""
        return json.dumps(asdict(self), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The state that :meth:`to_json` gave as *text*. Raises BadArgument where it is none."""
        try:
            return load(cls, json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise BadArgument(f"this is no NIC's state: {error}") from None


_T = typing.TypeVar("_T")


def load(kind: type[_T], plain: Any) -> _T:
    """A value of *kind* (a dataclass here, or what one is made of) from plain JSON values.

    Raises TypeError for what does not fit.
    """
    return typing.cast(_T, _load(kind, plain))


def _load(kind: Any, plain: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if plain is None and types.NoneType in arguments:
            return None
        (only,) = (a for a in arguments if a is not types.NoneType)
        return _load(only, plain)
    if origin is tuple:
        if not isinstance(plain, list):
            raise TypeError(f"{plain!r} is no list")
        return tuple(_load(arguments[0], item) for item in plain)
    if origin is dict:
        if not isinstance(plain, dict):
            raise TypeError(f"{plain!r} is no object")
        return {str(key): _load(arguments[1], value) for key, value in plain.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(plain, dict):
            raise TypeError(f"{plain!r} is no {kind.__name__}")
        hints = typing.get_type_hints(kind)
        names = {f.name for f in fields(kind)}
        if plain.keys() != names:
            raise TypeError(f"{kind.__name__} has not the keys {sorted(plain.keys() ^ names)}")
        return kind(**{name: _load(hints[name], plain[name]) for name in plain})
    if kind is Any:
        return plain
    if type(plain) is not kind:
        raise TypeError(f"{plain!r} is no {kind.__name__}")
    return plain

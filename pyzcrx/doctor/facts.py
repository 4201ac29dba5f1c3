"""What the doctor looks at, as plain data: the checks ask nothing but this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyzcrx.nic.drivers import driver_of
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.state import Queue, State
from pyzcrx.nic.steps import Steer
from pyzcrx.probe import Probe


@dataclass(frozen=True, slots=True)
class Kernel:
    """The running kernel."""

    probe: Probe
    config: Mapping[str, str] | None
    """Its build options, without ``CONFIG_``; None: nowhere to be read."""
    config_source: str
    """The file they are from, or the files that were looked for."""
    io_uring_disabled: int | None
    """The sysctl; None: this kernel has none."""


@dataclass(frozen=True, slots=True)
class Privilege:
    """What this process may do."""

    net_admin: bool
    ipc_lock: bool
    sys_admin: bool
    initial_user_namespace: bool
    seccomp: bool
    """Whether a filter is on."""


@dataclass(frozen=True, slots=True)
class HugePages:
    """The pool of one size."""

    size_bytes: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What an area can be made of."""

    memlock_bytes: int | None
    """RLIMIT_MEMLOCK; None: no limit."""
    available_bytes: int | None
    page_bytes: int
    huge: tuple[HugePages, ...]
    transparent_huge: str | None
    """``always``, ``madvise`` or ``never``."""


@dataclass(frozen=True, slots=True)
class Machine:
    """CPUs."""

    cpus: frozenset[int]
    """On which this process may run."""
    nodes: Mapping[int, frozenset[int]]
    """The CPUs of each NUMA node."""
    product: str | None = None
    """The maker's and the model's name, as the firmware gives them (DMI)."""


@dataclass(frozen=True, slots=True)
class RingUser:
    """A process with an io_uring."""

    pid: int
    name: str
    receiving: bool
    """Whether a RECV_ZC request of its waits."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A journal: what a program changed on the NIC and has not put back."""

    name: str
    pid: int
    queues: tuple[int, ...]
    changes: int
    state: str
    """``live``: its program runs; ``kept``: by ``zcrx-nic setup``; ``stale``;
    ``damaged``; ``newer``: of a later pyzcrx; ``foreign``: no file, or not root's nor ours."""
    rules: tuple[Steer, ...] = ()
    """The flow rules that it made."""


@dataclass(frozen=True, slots=True)
class Card:
    """The interface that was asked for, and everything around it."""

    state: State
    virtual: bool
    """It has no device below it that could do DMA."""
    ring_users: tuple[RingUser, ...] = ()
    unseen_processes: int = 0
    """Processes whose descriptors could not be seen."""
    leftovers: tuple[Leftover, ...] | None = ()
    """None: could not be seen."""
    urgent_cleared: bool | None = None
    """Whether nftables clears TCP's URG flag; None: could not be seen."""
    device: str | None = None
    """The PCI vendor and device ids, as ``1ae0:0042``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the program that is to run wants.

    queue: the rx queue. flow: what is to arrive there. area_bytes: the memory for it.
    """

    queue: int | None = None
    flow: Flow | None = None
    area_bytes: int = 64 << 20
    rx_buf_len: int = 0
    """0: a page."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. ``card`` None: no interface was named.

    kernel, privilege, memory, machine: what this machine has. wanted: what the program needs.
    """

    kernel: Kernel
    privilege: Privilege
    memory: Memory
    machine: Machine
    wanted: Wanted = field(default_factory=Wanted)
    card: Card | None = None
    drivers: Mapping[str, str] = field(default_factory=dict)
    """Where no interface was named: those there are, and their drivers."""

    @property
    def queue(self) -> int | None:
        """The queue in question: the one asked for, or the last that can be had."""
        if self.wanted.queue is not None or self.card is None:
            return self.wanted.queue
        state = self.card.state
        fixed = driver_of(state).fixed_queues
        free = [q.index for q in state.queues if q.holder is None and q.index not in fixed]
        return free[-1] if free else (state.rx_queues - 1 if state.rx_queues else None)

    @property
    def queue_state(self) -> Queue | None:
        """What can be seen of it."""
        if self.card is None or self.queue is None:
            return None
        return self.card.state.queue(self.queue)

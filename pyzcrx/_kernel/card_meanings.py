"""What an errno means when a NIC's settings are read or changed; part of meanings.py.

Where netlink brings the kernel's own words, they stand beside these.
"""

from __future__ import annotations

import errno as _errno

from pyzcrx.errors import (
    InvalidRequest,
    KernelError,
    NoMemory,
    NoSuchInterface,
    NotPermitted,
    NotSupported,
    OutOfRange,
    QueueBusy,
    RuleTableFull,
)

_Meaning = tuple[type[KernelError], str, str]

CARD_MEANINGS: dict[str, dict[int, _Meaning]] = {
    "set rings": {
        _errno.EINVAL: (
            InvalidRequest,
            "the NIC does not take this ring size",
            "try a larger one, a power of two; see ethtool -g for the largest",
        ),
    },
    "set tcp-data-split": {
        _errno.EINVAL: (
            InvalidRequest,
            "the NIC refuses header split as it is set now",
            "take XDP off it (ip link set IF xdp off); with mlx5 switch rx_cqe_compress off and "
            "rx-gro-hw on; end zcrx on its queues before switching split off",
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the driver cannot set header split",
            "use a NIC with zcrx support (bnxt, mlx5, gve, fbnic), or NODEV",
        ),
    },
    "set hds-thresh": {
        _errno.EINVAL: (
            InvalidRequest,
            "the NIC refuses this hds-thresh as it is set now",
            "end zcrx on its queues first",
        ),
    },
    "set features": {},
    "set private flags": {},
    "set RSS": {
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the kernel cannot set RSS by netlink (before 6.17), or the NIC has none",
            "use Linux 6.17 or newer",
        ),
        _errno.EINVAL: (
            InvalidRequest,
            "the NIC refuses this RSS table",
            "see ethtool -x, and ethtool -l for the queues",
        ),
    },
    "create RSS context": {
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the NIC has no further RSS contexts, or the kernel is older than 6.17",
            "use a single queue",
        ),
        _errno.EBUSY: (QueueBusy, "there is such a context already", "choose another number"),
    },
    "delete RSS context": {
        _errno.ENOENT: (KernelError, "there is no such context", "see ethtool -x"),
        _errno.EBUSY: (QueueBusy, "a rule uses the context", "delete the rule first"),
    },
    "insert rule": {
        _errno.ENOSPC: (
            RuleTableFull,
            "the NIC's rule table is full",
            "delete rules that are not needed (ethtool -n IF; ethtool -N IF delete N)",
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "ntuple filters are off, or the NIC cannot match this",
            "ethtool -K IF ntuple on; leave parts of the flow out",
        ),
        _errno.EINVAL: (
            InvalidRequest,
            "the NIC does not take this rule, or has no such queue",
            "leave parts of the flow out; see ethtool -l for the queues",
        ),
        _errno.EEXIST: (InvalidRequest, "the NIC has this rule already", "see ethtool -n"),
    },
    "delete rule": {
        _errno.ENOENT: (KernelError, "there is no such rule", "see ethtool -n"),
    },
    "set NAPI": {
        _errno.ENOENT: (KernelError, "there is no such NAPI instance", "is the interface up?"),
    },
    "set IRQ affinity": {
        _errno.EIO: (
            KernelError,
            "the kernel keeps this interrupt where it is",
            "leave it; managed interrupts cannot be moved",
        ),
        _errno.EINVAL: (InvalidRequest, "none of these CPUs is online", "see lscpu"),
        _errno.ERANGE: (InvalidRequest, "there is no such CPU", "see lscpu"),
        _errno.EOVERFLOW: (InvalidRequest, "there is no such CPU", "see lscpu"),
        _errno.EACCES: (NotPermitted, "only root may move interrupts", "run as root"),
        _errno.ENOENT: (KernelError, "there is no such interrupt", "see /proc/interrupts"),
    },
    "choose queue": {
        _errno.ERANGE: (OutOfRange, "the NIC has no such queue", "see ethtool -l"),
    },
    "find interface": {},
    "netlink": {},
    "netlink family": {
        _errno.ENOENT: (
            NotSupported,
            "the kernel has no such netlink family",
            "use Linux 6.15 or newer",
        ),
    },
    "card": {
        _errno.EPERM: (
            NotPermitted,
            "changing a NIC needs CAP_NET_ADMIN",
            "run as root or give the process CAP_NET_ADMIN",
        ),
        _errno.ENODEV: (
            NoSuchInterface,
            "no such interface in this network namespace",
            "see ip link",
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the driver or this kernel has no such setting",
            "use another NIC or a newer kernel",
        ),
        _errno.EINVAL: (InvalidRequest, "the NIC refuses this", "see ethtool and dmesg"),
        _errno.EBUSY: (QueueBusy, "the NIC is busy with it", "try again"),
        _errno.ERANGE: (OutOfRange, "beyond what the NIC has", "see ethtool -l"),
        _errno.ENOMEM: (NoMemory, "no memory", "free memory or ask for less"),
        _errno.ETIMEDOUT: (KernelError, "the kernel did not answer", "see dmesg"),
        _errno.EAGAIN: (
            KernelError,
            "the device refused a command of its driver",
            "see dmesg, and try again; if nothing arrives any more: ip link set IF down, then up",
        ),
        _errno.ENOTRECOVERABLE: (
            KernelError,
            "the device does not answer its driver",
            "see dmesg; ethtool --reset IF all",
        ),
    },
}

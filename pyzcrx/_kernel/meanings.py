"""What an errno means, by operation: the one place where it gets class, cause and hint.

The kernel gives zcrx registration no text (its extack is NULL), so the errno is all
there is; the causes below are those of ``io_uring/zcrx.c`` and the drivers (Linux 6.15
to 7.3).
"""

from __future__ import annotations

import errno as _errno

from pyzcrx._kernel.card_meanings import CARD_MEANINGS
from pyzcrx.errors import (
    AreaExhausted,
    BadAreaMemory,
    Cancelled,
    InterfaceGone,
    InvalidRequest,
    KernelError,
    NoMemory,
    NoSuchInterface,
    NotConnected,
    NotPermitted,
    NotSupported,
    NotTcp,
    OutOfRange,
    PeerReset,
    ProviderIgnored,
    QueueBound,
    QueueBusy,
    ReceiveError,
    WrongQueue,
)

_Meaning = tuple[type[KernelError], str, str]

_PRIVILEGE = "run as root or give the process CAP_NET_ADMIN in the initial user namespace"
_READ_ONLY = (
    BadAreaMemory,
    "the area's memory is read-only or not mapped (mprotect, munmap, a mapping of a file on disk)",
    "map it readable and writable, or use Area.anonymous() or Area.memfd() as they are made",
)
_DOCTOR = "enable header split explicitly (tcp-data-split on, hds-thresh 0)"

# By operation, then errno.  An operation falls back on "" for what it lacks.
_MEANINGS: dict[str, dict[int, _Meaning]] = {
    "ring set-up": {
        _errno.EPERM: (
            NotPermitted,
            "io_uring is not allowed here (kernel.io_uring_disabled or a seccomp filter)",
            "sysctl kernel.io_uring_disabled=0, or relax the container's seccomp profile",
        ),
        _errno.ENOSYS: (
            NotSupported,
            "this kernel has no io_uring",
            "use a kernel with CONFIG_IO_URING, 6.15 or newer",
        ),
        _errno.EINVAL: (
            NotSupported,
            "the kernel does not know a ring flag that zcrx needs",
            "use Linux 6.15 or newer",
        ),
        _errno.ENOMEM: (
            NoMemory,
            "ring memory was refused (RLIMIT_MEMLOCK without CAP_IPC_LOCK, or no memory)",
            "raise ulimit -l or ask for fewer entries",
        ),
    },
    "register ifq": {
        _errno.EPERM: (NotPermitted, "zcrx registration needs CAP_NET_ADMIN", _PRIVILEGE),
        _errno.EINVAL: (
            InvalidRequest,
            "header split is not explicitly enabled, hds-thresh is not 0, or the driver or "
            "kernel refuses this rx_buf_len or flag",
            _DOCTOR,
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the driver has no zcrx queue operations (or no such queue) or no device that does "
            "DMA, cannot do this rx_buf_len, the queue is leased to another device, or the kernel "
            "was built without CONFIG_IO_URING_ZCRX",
            "use a NIC with zcrx support (bnxt, mlx5, gve, fbnic), its link up, or NODEV",
        ),
        _errno.EEXIST: (
            QueueBound,
            "the rx queue is bound already, or an XDP program is attached",
            "end its user (a queue is given back a moment after close), choose another queue, "
            "or: ip link set IF xdp off",
        ),
        _errno.EBUSY: (
            QueueBusy,
            "AF_XDP holds the rx queue, or it is leased to another device",
            "end the AF_XDP program or choose another queue",
        ),
        _errno.ERANGE: (
            OutOfRange,
            "the rx queue does not exist or its driver never restarts it (gve: queue 0), or the "
            "area is not contiguous enough for rx_buf_len",
            "choose another queue (ethtool -l); use huge pages for rx_buf_len above a page",
        ),
        _errno.ENODEV: (
            NoSuchInterface,
            "no such interface in this network namespace",
            "see ip link",
        ),
        _errno.ENODATA: (
            ProviderIgnored,
            "the driver ignored the memory provider",
            "enable header split, update the driver or choose another NIC",
        ),
        _errno.ENOMEM: (
            NoMemory,
            "the area could not be pinned (RLIMIT_MEMLOCK without CAP_IPC_LOCK, or no memory)",
            "raise ulimit -l or use a smaller area",
        ),
        _errno.EAGAIN: (
            KernelError,
            "the device refused its driver a command, such as to start the queue",
            "see dmesg, and try again",
        ),
        _errno.ENOTRECOVERABLE: (
            KernelError,
            "the device does not answer its driver",
            "see dmesg; ethtool --reset IF all",
        ),
        _errno.EFAULT: _READ_ONLY,
    },
    "register ifq NODEV": {
        _errno.EINVAL: (
            NotSupported,
            "this kernel has no ZCRX_REG_NODEV",
            "use Linux 7.2 or newer, or name an interface and a queue",
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the kernel was built without CONFIG_IO_URING_ZCRX, or NODEV was asked for an "
            "rx_buf_len other than a page",
            "use a kernel with zcrx and leave rx_buf_len out",
        ),
    },
    "add area": {
        _errno.EOPNOTSUPP: (
            NotSupported,
            "this kernel has no ZCRX_CTRL_ADD_AREA",
            "use Linux 7.3 or newer, or a larger area from the start",
        ),
        _errno.EINVAL: (
            InvalidRequest,
            "the area is of another kind than the first (memory or dmabuf), or the ifq has 1024",
            "make it of the same kind",
        ),
        _errno.ERANGE: (
            OutOfRange,
            "the area is not contiguous enough for the ifq's rx_buf_len",
            "use huge pages, in multiples of one",
        ),
        _errno.ENODEV: (
            InterfaceGone,
            "the NIC was taken away while its queue was bound",
            "register again when it is back",
        ),
        _errno.EFAULT: _READ_ONLY,
    },
    "arm notification": {
        _errno.EINVAL: (InvalidRequest, "the notification is armed already", "arm it once it came"),
    },
    "drop privileges": {
        _errno.EPERM: (NotPermitted, "only root can become another user", "run as root"),
    },
    "register NAPI": {
        _errno.EINVAL: (
            NotSupported,
            "this kernel has no busy polling in io_uring (6.9; for chosen NAPI ids 6.13), or no "
            "such NAPI id",
            "use Linux 6.13 or newer, and the ids of the NIC's queues (zcrx-nic show)",
        ),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "the kernel was built without busy polling",
            "use a kernel with CONFIG_NET_RX_BUSY_POLL",
        ),
    },
    "create udmabuf": {
        _errno.ENOENT: (
            NotSupported,
            "there is no /dev/udmabuf",
            "use a kernel with CONFIG_UDMABUF, or another kind of area",
        ),
        _errno.EACCES: (
            NotPermitted,
            "/dev/udmabuf is not for this user",
            "join the group kvm, or run as root",
        ),
        _errno.EINVAL: (
            InvalidRequest,
            "the size is beyond udmabuf's limit",
            "raise /sys/module/udmabuf/parameters/size_limit_mb",
        ),
    },
    "receive": {
        _errno.EFAULT: (
            WrongQueue,
            "data of this connection arrived in another ifq",
            "receive on the ifq whose queue the flow is steered to, and narrow the rule",
        ),
        _errno.EPROTONOSUPPORT: (
            NotTcp,
            "not a plain TCP socket (UDP, MPTCP or kernel TLS receive)",
            "use a TCP socket; IPPROTO_TCP instead of MPTCP",
        ),
        _errno.ENOTSOCK: (NotTcp, "not a socket", "pass a connected TCP socket"),
        _errno.EBADF: (NotConnected, "the socket was closed", "keep it open while it receives"),
        _errno.ENOTCONN: (
            NotConnected,
            "the socket is not connected, or it listens",
            "connect or accept first",
        ),
        _errno.ECONNRESET: (PeerReset, "the peer reset the connection", ""),
        _errno.ENOMEM: (
            AreaExhausted,
            "no free buffer in the area, and none that could come back",
            "release buffers sooner or use a larger area",
        ),
        _errno.ETIMEDOUT: (
            ReceiveError,
            "the peer no longer answers (TCP_USER_TIMEOUT or keepalive)",
            "see the path to it",
        ),
        _errno.ECANCELED: (Cancelled, "the request was cancelled", ""),
        _errno.ENODEV: (
            InterfaceGone,
            "the NIC was taken away while its queue was bound",
            "register again when it is back",
        ),
        _errno.EINVAL: (
            ReceiveError,
            "this kernel does not know RECV_ZC, or the ifq is gone",
            "use Linux 6.15 or newer",
        ),
    },
    "serve": {  # what a server of ours finds by its own clock
        _errno.ETIMEDOUT: (
            ReceiveError,
            "the peer did nothing for too long",
            "see whether it still runs, or wait longer",
        ),
    },
    "send": {
        _errno.ECONNRESET: (PeerReset, "the peer reset the connection", ""),
        _errno.EPIPE: (PeerReset, "the connection is closed for sending", ""),
        _errno.ECANCELED: (Cancelled, "the request was cancelled", ""),
    },
    "accept": {
        _errno.ECANCELED: (Cancelled, "the request was cancelled", ""),
        _errno.EMFILE: (
            KernelError,
            "this process has no descriptor left",
            "raise ulimit -n or close connections, then accept again",
        ),
        _errno.ENFILE: (
            KernelError,
            "the system has no descriptor left",
            "raise fs.file-max or close connections, then accept again",
        ),
    },
    "connect": {
        _errno.ECONNREFUSED: (
            KernelError,
            "nothing listens there",
            "start the server, or give the address that it listens on",
        ),
        _errno.ETIMEDOUT: (
            KernelError,
            "no answer came in time",
            "see whether the host is up and no firewall drops what is sent to it",
        ),
        _errno.EHOSTUNREACH: (KernelError, "the host cannot be reached", "see ip route get"),
        _errno.ENETUNREACH: (KernelError, "there is no route to the host", "see ip route get"),
    },
    "listen": {
        _errno.EADDRINUSE: (
            KernelError,
            "the port is in use",
            "choose another --port, or end the program that has it (ss -ltnp)",
        ),
        _errno.EADDRNOTAVAIL: (
            KernelError,
            "no interface has that address",
            "see ip address, or leave --host out",
        ),
        _errno.EACCES: (
            NotPermitted,
            "ports below 1024 need CAP_NET_BIND_SERVICE",
            "choose a higher --port or run as root",
        ),
    },
    "": {
        _errno.EPERM: (NotPermitted, "the kernel does not permit it", _PRIVILEGE),
        _errno.EEXIST: (
            KernelError,
            "the ring belongs to another thread (IORING_SETUP_SINGLE_ISSUER)",
            "use the ring from the thread that made it",
        ),
        _errno.ENOMEM: (NoMemory, "no memory", "free memory or ask for less"),
        _errno.EOPNOTSUPP: (
            NotSupported,
            "this kernel does not support it",
            "use a newer kernel",
        ),
    },
}


def typed(error: OSError, operation: str, subject: str = "") -> KernelError:
    """The typed error of what a system call raised, as :func:`kernel_error`.

    Raises *error* itself where it has no errno: a signal handler raised it, within that call.
    """
    if error.errno is None:
        raise error
    return kernel_error(error.errno, operation, subject)


def kernel_error(errno: int, operation: str, subject: str = "", *, extack: str = "") -> KernelError:
    """The typed error of an errno: *operation* names a row above, *subject* whom it met.

    ``errno`` may be given as the negative number that the shim returns. extack: the
    kernel's own explanation, where it gave one.
    """
    number = abs(errno)
    base = operation.removesuffix(" NODEV")
    rows = (operation, base, "")
    if operation in CARD_MEANINGS or operation.startswith("read "):
        rows = (operation, "card", "card")
    for row in rows:
        meaning = (_MEANINGS.get(row) or CARD_MEANINGS.get(row, {})).get(number)
        if meaning is not None:
            kind, cause, hint = meaning
            break
    else:
        kind, cause, hint = (ReceiveError if base == "receive" else KernelError), "", ""
    return kind(number, f"{operation} ({subject})" if subject else operation, cause, hint, extack)


def meanings() -> dict[str, dict[int, _Meaning]]:
    """A copy of the table: operation, errno, (class, cause, hint)."""
    return {operation: dict(row) for operation, row in (*_MEANINGS.items(), *CARD_MEANINGS.items())}

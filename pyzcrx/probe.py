"""What this kernel can do for zcrx, found out by trying.

Neither versions nor IORING_REGISTER_QUERY can be trusted alone: 6.18 has zcrx
and does not answer the query, and the query answers on kernels built without
zcrx. So a registration with a zeroed argument is attempted first, which fails
in every case and says how far it got; the query then fills in the details.
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE
from pyzcrx._kernel.query import query, query_zcrx
from pyzcrx._queue.area import Area
from pyzcrx.errors import KernelError, NotSupported, errno_name
from pyzcrx.ring import Ring
from pyzcrx.uapi import AreaFlag, CtrlOp, Feature, Query, RegisterFlag


class Presence(Enum):
    """How a zeroed registration was answered."""

    PRESENT = "present"
    """EFAULT or EPERM: the kernel has zcrx."""
    COMPILED_OUT = "compiled out"
    """EOPNOTSUPP: CONFIG_IO_URING_ZCRX is not set."""
    UNKNOWN_TO_KERNEL = "unknown to the kernel"
    """EINVAL: older than 6.15."""
    NO_IO_URING = "no io_uring"
    """The ring could not be made."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What :func:`probe` found. None: could not be found out, ``notes`` say why."""

    kernel: str
    """The kernel's release, as ``uname -r`` gives it."""
    liburing: str
    """The version of liburing that pyzcrx was built with."""
    zcrx: Presence
    """Whether the kernel has zcrx."""
    permitted: bool | None
    """Whether this process may register an ifq (CAP_NET_ADMIN)."""
    nodev: bool | None
    """Whether ZCRX_REG_NODEV works."""
    query: bool
    """Whether the kernel answers IO_URING_QUERY_ZCRX."""
    register_flags: RegisterFlag | None = None
    """Flags that a registration may have."""
    area_flags: AreaFlag | None = None
    """Flags that an area may have."""
    features: Feature | None = None
    """What else the kernel's zcrx can do."""
    ctrl_ops: tuple[CtrlOp, ...] | None = None
    """Operations on a registered queue."""
    stats: bool | None = None
    """Whether the kernel counts copies (zcrx_stats)."""
    ring_errno: int | None = None
    """Why no ring could be made."""
    notes: tuple[str, ...] = ()
    """A line for each thing that could not be found out, or that is in the way."""

    @property
    def ready(self) -> bool:
        """Whether this process could receive by zcrx, given a NIC or NODEV."""
        return self.zcrx is Presence.PRESENT and self.permitted is True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = asdict(self)
        plain["zcrx"] = self.zcrx.value
        for name in ("register_flags", "area_flags", "features"):
            flags = getattr(self, name)
            plain[name] = None if flags is None else [flag.name for flag in flags]
        if self.ctrl_ops is not None:
            plain["ctrl_ops"] = [op.name for op in self.ctrl_ops]
        return plain


def probe() -> Probe:
    """Find out what this kernel can do. Changes nothing, needs no privilege, never raises.

    Without privilege NODEV is taken from the query, or is None where the kernel
    does not answer it.
    """
    kernel, liburing = os.uname().release, ffi.string(lib.pz_liburing_version()).decode()
    try:
        ring = Ring(sq_entries=1, cq_entries=8)
    except KernelError as error:
        return Probe(
            kernel,
            liburing,
            Presence.NO_IO_URING,
            None,
            None,
            False,
            ring_errno=error.errno,
            notes=(str(error),),
        )
    try:
        presence, permitted, notes = _attempt(ring)
        if presence is not Presence.PRESENT:
            return Probe(kernel, liburing, presence, None, None, False, notes=notes)
        found = query_zcrx(ring.ring_fd)
        return Probe(
            kernel,
            liburing,
            presence,
            permitted,
            _nodev(permitted, found),
            found is not None,
            register_flags=_flags(RegisterFlag, found and found.register_flags),
            area_flags=_flags(AreaFlag, found and found.area_flags),
            features=_flags(Feature, found and found.features),
            ctrl_ops=None
            if found is None
            else tuple(op for op in CtrlOp if op < found.nr_ctrl_opcodes),
            stats=_stats(ring, found),
            notes=notes,
        )
    finally:
        ring.close()


def _attempt(ring: Ring) -> tuple[Presence, bool, tuple[str, ...]]:
    reg = ffi.new("struct pz_ifq_reg *")
    number = -lib.pz_register_ifq(ring._core.raw, reg)
    if number == errno.EPERM:
        return (
            Presence.PRESENT,
            False,
            ("registration needs CAP_NET_ADMIN in the initial user namespace: run as root",),
        )
    if number == errno.EFAULT:
        return Presence.PRESENT, True, ()
    if number == errno.EOPNOTSUPP:
        return Presence.COMPILED_OUT, False, ("the kernel lacks CONFIG_IO_URING_ZCRX",)
    if number == errno.EINVAL:
        return Presence.UNKNOWN_TO_KERNEL, False, ("zcrx needs Linux 6.15 or newer",)
    return (
        Presence.PRESENT,
        False,
        (f"a zeroed registration was answered with {errno_name(number)}",),
    )


def _stats(ring: Ring, found: Any | None) -> bool | None:
    if found is None:
        return None
    if not found.features & Feature.EVENT:
        return False
    event = query(ring.ring_fd, Query.ZCRX_EVENT, "struct pz_query_zcrx_event")
    return event is not None and event.stats_size > 0


def _nodev(permitted: bool, found: Any | None) -> bool | None:
    if not permitted:
        return None if found is None else bool(found.register_flags & RegisterFlag.NODEV)
    # A ring of its own: an ifq stays with its ring to the end.
    try:
        with Ring(sq_entries=1, cq_entries=8) as ring, Area.anonymous(PAGE) as area:
            try:
                ring.register_ifq(area, rq_entries=1)
            finally:
                ring.close()
    except NotSupported:
        return False
    except KernelError:
        return None
    return True


def _flags(kind: Any, value: int | None) -> Any | None:
    """The flags that this version knows; a newer kernel may have more."""
    if value is None:
        return None
    known = 0
    for flag in kind:
        known |= flag
    return kind(value & known)

"""What was sent, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum


class Copied(Enum):
    """Why the kernel was asked to copy what it sends."""

    ASKED = "asked"
    """``zero_copy=False``."""
    CHANGING = "changing"
    """The memory could change before the peer has it: a bytearray, a view of a batch."""
    SMALL = "small"
    """A copy of so few bytes costs less than a notification."""
    SCATTERED = "scattered"
    """So many short pieces that a copy costs less."""
    LOCAL = "local"
    """The peer is on this machine, or the socket is not TCP: the kernel copies anyway."""
    LIMIT = "limit"
    """Half of the area, or a quarter of the CQ, waits for notifications."""
    REFUSED = "refused"
    """The kernel refused (ENOMEM: RLIMIT_MEMLOCK; EOPNOTSUPP: the socket cannot)."""


@dataclass(slots=True)
class SendStats:
    """What one ring sent since it was made. Sizes in bytes."""

    sends: int = 0
    """Sends that were accepted whole."""
    accepted_bytes: int = 0
    """Bytes that the kernel accepted."""
    bytes_zero_copy: int = 0
    """Of those, sent from where they lay."""
    bytes_copied: int = 0
    """Of those, copied into the socket."""
    copied: dict[str, int] = field(default_factory=dict)
    """``bytes_copied`` by reason: the values of :class:`Copied`."""
    bytes_reported_copied: int = 0
    """Of bytes_zero_copy, what the kernel says it copied after all. A hint: without sg
    offload it says so too rarely."""
    unnotified_bytes: int = 0
    """Bytes that the NIC may still read, now."""
    unnotified_max_bytes: int = 0
    """The most that those ever were."""
    abandoned_bytes: int = 0
    """Bytes whose notification did not come before the ring closed. Their memory is never
    given back."""

    def as_dict(self) -> dict[str, object]:
        """The figures by name, for JSON."""
        return asdict(self)

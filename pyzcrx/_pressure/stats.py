"""A receiver's figures, under the same names in every command's ``--json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class ReceiverStats:
    """What one receiver did since it began. Sizes in bytes."""

    bytes: int = 0
    """Payload received."""
    bytes_zero_copy: int | None = 0
    """Payload that the CPU did not copy; None where the kernel cannot tell."""
    bytes_copied: int | None = 0
    """Payload that the kernel copied into the area, or pressure out of it, or that was received
    without it. On a NIC a lower bound: the kernel does not count payload that came in a packet's
    linear part."""
    buffers: int = 0
    """References to buffers handed out, one a completion."""
    connections: int = 0
    """Connections received from."""
    rearms: int = 0
    """How often a request ended early (ENOSPC, ENOMEM) and was armed again."""
    alloc_failures: int = 0
    """How many of those were ENOMEM; and on a NIC the kernel's ALLOC_FAIL notifications."""
    held_buffers: int = 0
    """References out now, and copies."""
    held_max_ns: int = 0
    """The longest that one was out, or is."""
    seconds: float = 0.0
    """Seconds since the receiver began; :meth:`pyzcrx.Ifq.stats` leaves it 0."""

    def as_dict(self) -> dict[str, int | float | None]:
        """The figures by name, for JSON."""
        return asdict(self)

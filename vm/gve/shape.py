"""What a NIC has, as GVE_ADMINQ_DESCRIBE_DEVICE tells the driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What the NIC has."""

    queues: int = 4
    ring: int = 1024
    mtu: int = 8896
    buffer_bytes: int = 4096
    header_bytes: int = 256

    @property
    def blocks(self) -> int:
        return 2 * self.queues

"""What a relay did."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class RelayStats:
    """What one relay did since it began. Sizes in bytes."""

    connections: int = 0
    """Accepted."""
    open: int = 0
    """Of those, open now."""
    refused: int = 0
    """Of those, reset since the other side could not be connected to."""
    resets: int = 0
    """Of those, ended by a reset: by an error of either side, or idle for too long."""
    forward_bytes: int = 0
    """Forwarded from those that connected."""
    backward_bytes: int = 0
    """Forwarded to them."""

    def as_dict(self) -> dict[str, int]:
        """The figures by name, for JSON."""
        return asdict(self)

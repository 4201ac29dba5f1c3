"""What became of one recorded stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class RecordStats:
    """One stream of a recording. Sizes and positions in bytes."""

    files: list[str]
    """Its files, in order."""
    begun_at: int
    """Position of the stream where the recording began: 0 unless it was resumed."""
    position: int
    """Position of the stream up to which it was received."""
    synced_bytes: int
    """So many bytes of the stream, from its beginning, are right and on disk."""
    copied_bytes: int
    """Of what was received, copied by the recorder, since direct I/O could not take it in place."""
    whole: bool
    """Whether all that the peer sent is on disk, up to the end that the peer gave it."""
    error: str | None
    """Why it is not whole; null while it is recorded."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

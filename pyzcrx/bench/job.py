"""What a receiver's or a sender's process is asked to do: plain data, passed as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from pyzcrx._ring.pace import MOST_US

SHORT_BYTES = 4096
"""What a connection that comes and goes brings."""
ECHO_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _Told:
    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class ReceiveJob(_Told):
    """One run of one receiver. Without an interface a zcrx receiver uses NODEV."""

    receiver: str
    host: str
    port: int
    connections: int = 1
    interface: str | None = None
    queue: int = 0
    rx_buf_len: int = 0
    area_bytes: int = 64 << 20
    gather_us: int = MOST_US
    """How long a turn of a zcrx receiver of ours may gather (:class:`pyzcrx.Ring`)."""
    read: bool = False
    """Read every byte, as a parser or a checksum would."""
    echo: bool = False
    """Send every byte back."""
    short: int = 0
    """Connections that come and go, in place of those that stay."""
    program: str | None = None
    """The receiver, where it is a program of others."""
    fds: list[int] = field(default_factory=list)
    """Descriptors of the connections, inherited; where there are any, nobody listens."""
    mark: int = 0
    """The number by which an emulator that counts knows this run; 0: none."""


@dataclass(frozen=True, slots=True)
class SendJob(_Told):
    """One run of the sender: *size_bytes* over all connections, or an echo exchange."""

    host: str
    ports: list[int]
    connections: int = 1
    """To each port."""
    size_bytes: int = 0
    how: str = "sendfile"
    """``sendfile``, ``zerocopy`` (MSG_ZEROCOPY) or ``send``."""
    back: bool = False
    """The receiver sends every byte back."""
    relay: bool = False
    """By a second connection, which there is for each."""
    check: bool = False
    """Compare what comes back with what was sent."""
    short: int = 0
    """Connections that come and go, with a share of the bytes each; so many at a time."""
    echo_rounds: int = 0
    echo_bytes: int = ECHO_BYTES

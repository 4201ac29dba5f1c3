"""What a receiver is told. Each event belongs to one request.

Made for ``match``::

    match event:
        case Data(request=r, buffer=buf): ...
        case End(request=r): ...

Data is of csrc/deliver.c, since there is one for each buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pyzcrx._lease import Data as Data
from pyzcrx.errors import ZcrxError

if TYPE_CHECKING:
    from pyzcrx.operations import Accept, Send
    from pyzcrx.receive import Request


@dataclass(slots=True)
class End:
    """The peer finished its side and nothing was left behind.

    A reset is Failed(PeerReset), unless a send of yours met it first: the kernel
    reports it once, and then only the send knows.
    """

    request: Request


@dataclass(slots=True)
class Limit:
    """The request received as many bytes as it was limited to; receive again for more."""

    request: Request


@dataclass(slots=True)
class Failed:
    """The request ended with *error*; what arrived before it was delivered."""

    request: Request | Accept | Send
    error: ZcrxError


@dataclass(slots=True)
class Accepted:
    """A connection; *fd* is yours to close."""

    request: Accept
    fd: int


@dataclass(slots=True)
class Sent:
    """All *size_bytes* of a send were taken over by the kernel; its buffers are yours again."""

    request: Send
    size_bytes: int


Event: TypeAlias = Data | End | Limit | Failed | Accepted | Sent

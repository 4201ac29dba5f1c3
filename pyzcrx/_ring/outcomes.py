"""How requests end, and what they bring beside data: the events of a request of type R.

Made by the requests themselves, which lie above. :mod:`pyzcrx._receive.events` names them
all together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pyzcrx.errors import ZcrxError

R = TypeVar("R")


@dataclass(slots=True)
class End(Generic[R]):
    """The peer finished its side and nothing was left behind.

    A reset is Failed(PeerReset), unless a send of yours met it first: the kernel
    reports it once, and then only the send knows.
    """

    request: R
    """What ended."""


@dataclass(slots=True)
class Limit(Generic[R]):
    """The request received as many bytes as it was limited to; receive again for more."""

    request: R
    """What ended."""


@dataclass(slots=True)
class Failed(Generic[R]):
    """The request ended with *error*; what arrived before it was delivered."""

    request: R
    """What ended."""
    error: ZcrxError
    """Why: of the tree in :mod:`pyzcrx.errors`."""


@dataclass(slots=True)
class Accepted(Generic[R]):
    """A connection; *fd* is yours to close."""

    request: R
    """The accept, which goes on."""
    fd: int
    """Its descriptor, of a socket that blocks."""


@dataclass(slots=True)
class Sent(Generic[R]):
    """All *size_bytes* of a send were taken over by the kernel; its buffers are yours again."""

    request: R
    """The send."""
    size_bytes: int
    """All of its bytes."""

"""Who sits on buffers, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pyzcrx._lease import Account, RunLease
from pyzcrx._receive.request import Request


@dataclass(frozen=True, slots=True)
class Holder:
    """One buffer that is out, or a run of them that a stream has and nobody looked into."""

    age_ns: int
    """How long it has been out."""
    size_bytes: int
    """Its bytes."""
    request: Request | None
    """What brought it; None once nobody else knows the request."""
    copied: bool
    """Whether it is a copy, which takes nothing from the area."""
    leased_at: str | None
    """``FILE:LINE``, in debug mode."""

    def __str__(self) -> str:
        where = f", leased at {self.leased_at}" if self.leased_at else ""
        return f"{self.size_bytes} bytes of {self.request} for {self.age_ns / 1e9:.1f} s{where}"


class Held(NamedTuple):
    """What one request's buffers that are out amount to."""

    request: Request
    """What brought them."""
    buffers: int
    """How many."""
    size_bytes: int
    """Bytes of all of them."""


class Holding(Protocol):
    """An ifq, as what counts its buffers sees it."""

    account: Account

    def request(self, token: int, /) -> Request | None:
        """The request of that token, while anybody knows it."""


def holders(ifq: Holding, most: int) -> list[Holder]:
    """The buffers that are out longest, first things first."""
    now = time.monotonic_ns()
    return [
        Holder(
            age_ns=now - lease.since_ns,
            size_bytes=len(lease),
            request=ifq.request(lease.token),
            copied=lease.copied,
            leased_at=getattr(lease, "leased_at", None),
        )
        for lease in ifq.account.oldest(most)
    ]


def held_by_request(ifq: Holding, *, copies: bool = True) -> list[Held]:
    """By request, those that hold most bytes first; with or without copies."""
    sums: dict[int, tuple[int, int]] = {}
    for lease in ifq.account.oldest(-1):
        if lease.copied and not copies:
            continue
        buffers, size_bytes = sums.get(lease.token, (0, 0))
        more = lease.count if isinstance(lease, RunLease) else 1
        sums[lease.token] = buffers + more, size_bytes + len(lease)
    found = [
        Held(request, *amounts)
        for token, amounts in sums.items()
        if (request := ifq.request(token)) is not None
    ]
    return sorted(found, key=lambda held: -held.size_bytes)

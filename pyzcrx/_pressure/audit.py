"""The accounts: every reference that a completion brought is in exactly one place.

    completion queue -> batch or buffers -> held back -> refill queue -> consumed

A batch goes to the refill queue at once, as far as there is room and nothing waits already.

Accounts are of references, not of buffers of the area: with packing, one of those
backs several completions. The counters are kept anyway; only asking costs something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyzcrx._lease import Account
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._ring.columns import TAKEN
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.tokens import TOKEN_IFQ_MASK, TOKEN_RECEIVE
from pyzcrx.errors import AccountingError
from pyzcrx.uapi import CqeFlag

_MODULO = 1 << 32


@dataclass(frozen=True, slots=True)
class Audit:
    """How many references of one ifq are where. From :meth:`Ifq.audit`."""

    in_cq: int
    """Posted by the kernel, not drained yet."""
    in_batch: int
    """Drained, neither taken as a Buffer nor released; most of a turn that :meth:`Ring.events`
    hands on, too."""
    in_buffers: int
    """With Buffers that live, the undelivered ones of :meth:`Ring.events` among them."""
    held_back: int
    """Given back; they wait for room in the refill queue."""
    in_rq: int
    """In the refill queue; the kernel has not looked."""
    consumed: int
    """Taken back by the kernel, ever."""
    taken: int
    """Drained, ever: the sum of all but in_cq."""
    forgotten: int
    """Of those given back, by the garbage collector."""


class Audited(Protocol):
    """An ifq, as the auditor sees it."""

    account: Account
    token: int

    @property
    def ring(self) -> RingCore: ...
    @property
    def rq(self) -> RefillQueue: ...


def audit(ifq: Audited) -> Audit:
    """Count, and compare; see :meth:`Ifq.audit`."""
    ring, rq = ifq.ring, ifq.rq
    ring.finish_turn()
    taken, given, leased, buffers, held_back, pushed = ifq.account.snapshot()
    in_rq = rq.pending
    found = Audit(
        in_cq=_in_cq(ifq),
        in_batch=_in_batch(ifq),
        in_buffers=buffers,
        held_back=held_back,
        in_rq=in_rq,
        consumed=pushed - in_rq,
        taken=taken,
        forgotten=ifq.account.forgotten,
    )
    for what, left, right in (
        ("taken = leased + given back", taken, leased + given),
        ("leased = in the batch + in buffers", leased, found.in_batch + buffers),
        ("given back = held back + pushed", given, held_back + pushed),
        ("pushed = the refill queue's tail", pushed % _MODULO, rq.tail),
    ):
        if left != right:
            raise AccountingError(f"{what}: {left} is not {right} ({found})")
    if in_rq > rq.entries:
        raise AccountingError(
            f"the refill queue's head is beyond its tail: {rq.head} of {rq.tail} ({found})"
        )
    return found


def _in_cq(ifq: Audited) -> int:
    ring = ifq.ring
    head, tail = ring.cq.head, ring.cq.tail
    if head == tail:
        return 0
    cq, n = ring.cq.view, 0
    for i in range(min((tail - head) % _MODULO, len(cq))):
        at = (head + i) % len(cq)
        res, flags = cq[at, 1] & 0xFFFFFFFF, cq[at, 1] >> 32
        is_mine = cq[at, 0] & (TOKEN_RECEIVE | TOKEN_IFQ_MASK) == ifq.token
        n += is_mine and bool(flags & CqeFlag.MORE) and 0 < res < 1 << 31
    return n


def _in_batch(ifq: Audited) -> int:
    columns = ifq.ring.columns
    mask = TOKEN_RECEIVE | TOKEN_IFQ_MASK
    pairs = zip(columns.tokens[: columns.n_data], columns.offs[: columns.n_data], strict=True)
    return sum(token & mask == ifq.token and off != TAKEN for token, off in pairs)

"""Which rx queues the rings of this process hold: waiting for one of these is in vain."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import Protocol


class Holder(Protocol):
    """An ifq."""

    @property
    def ifindex(self) -> int: ...
    @property
    def rx_queue(self) -> int | None: ...


_lock = threading.Lock()
_holders: weakref.WeakSet[Holder] = weakref.WeakSet()


def add(holder: Holder) -> None:
    """It is bound from now on."""
    with _lock:
        _holders.add(holder)


def discard(holder: Holder) -> None:
    """Its ring is closed."""
    with _lock:
        _holders.discard(holder)


def holds(ifindex: int, queues: Collection[int]) -> bool:
    """Whether an ifq of this process is bound to one of *queues*."""
    with _lock:
        return any(h.ifindex == ifindex and h.rx_queue in queues for h in _holders)

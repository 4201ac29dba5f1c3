"""Descriptors that the ring itself listens to."""

from __future__ import annotations

import select
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from pyzcrx._kernel._ffi import check, lib
from pyzcrx._lease import Descriptor
from pyzcrx.uapi import CqeFlag


class Polling(Protocol):
    """A ring, as a poll on it sees it."""

    @property
    def raw(self) -> Any: ...

    def new_token(self) -> int: ...
    def watch(self, operation: Poll, token: int, /) -> None: ...
    def forget(self, token: int, /) -> None: ...


class Poll:
    """A multishot poll that nobody waits for; calls *readable* whenever *watched* is.

    Armed again where the kernel ends it (a completion queue that ran over). Owner
    thread only. Keeps neither the ring open nor the descriptor, which its owner closes.
    """

    def __init__(self, ring: Polling, watched: Descriptor, readable: Callable[[], None]) -> None:
        self._ring = weakref.ref(ring)
        self._watched = watched
        self._readable = readable
        self._arm(ring)

    def _arm(self, ring: Polling) -> None:
        self._token = ring.new_token()
        check(
            lib.pz_prep_poll(ring.raw, self._watched.number, select.POLLIN, 1, self._token), "poll"
        )
        ring.watch(self, self._token)

    def _drop(self, res: int) -> None:
        """Nothing to undo."""

    def _complete(self, res: int, flags: int) -> None:
        ring = self._ring()
        if ring is None or res < 0:
            return
        self._readable()
        if not flags & CqeFlag.MORE:
            ring.forget(self._token)
            self._arm(ring)

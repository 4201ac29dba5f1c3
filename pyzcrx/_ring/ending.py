"""The end of what is in flight, so that nothing the kernel still does touches our memory."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

from pyzcrx._kernel._ffi import check, lib
from pyzcrx._ring.columns import Columns
from pyzcrx._ring.roles import Operation
from pyzcrx.uapi import CqeFlag

_CLOSE_TIMEOUT_NS = 2_000_000_000


class Ending:
    """Cancels the *operations* of a ring, by token, and drops what they still bring."""

    def __init__(self, raw: Any, columns: Columns, operations: dict[int, Operation]) -> None:
        self._raw = raw
        self._columns = columns
        self._operations = operations
        self.ended: list[Operation] = []
        """Those whose last completion came while the ring was being closed."""
        self.reset_sends: Callable[[], bool] = lambda: False
        """Has the notifications come that were not given in time; whether any is out."""

    def cancel_all(self, drained: int | None) -> None:
        """End what is in flight. drained: what of the columns to drop first begins there."""
        if drained is not None:
            self._drop(drained)
        if not self._operations:
            return
        check(lib.pz_prep_cancel(self._raw, 0, 1, 0), "cancel")
        self._drop_all()
        if self._operations and self.reset_sends():
            self._drop_all()

    def _drop_all(self) -> None:
        until = time.monotonic_ns() + _CLOSE_TIMEOUT_NS
        while self._operations and (left := until - time.monotonic_ns()) > 0:
            n = lib.pz_ring_turn(self._raw, left, 0, 0, self._columns.raw)
            if n < 0 and n != -errno.EINTR:
                break
            self._drop(0)

    def _drop(self, start: int) -> None:
        for i in range(start, self._columns.raw.n_other):
            token, res, flags = self._columns.other(i)
            if (operation := self._operations.get(token)) is not None:
                operation._drop(res)
                if not flags & CqeFlag.MORE:
                    self.ended.append(operation)
                    del self._operations[token]

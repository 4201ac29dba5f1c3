"""The completion queue of the kernel in memory, and its overflow list."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from pyzcrx._ring.columns import DRAINED
from pyzcrx.uapi import CqeFlag


class Completions:
    """Room for *entries*, whatever the ring believes.

    Kernel: ``io_uring/io_uring.c:io_cqring_add_overflow()``, ``io_uring/zcrx.c`` (7.3).
    """

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self._cq: deque[tuple[int, int, int, int]] = deque()
        self._overflow: deque[tuple[int, int, int, int]] = deque()

    @property
    def waiting(self) -> bool:
        return bool(self._cq or self._overflow)

    @property
    def full(self) -> bool:
        return bool(self._overflow) or len(self._cq) >= self.entries

    def post(self, token: int, res: int, off: int = 0) -> bool:
        """One of several. No room, no completion, and nothing on the overflow list."""
        if self.full:
            return False
        self._cq.append((token, res, CqeFlag.MORE, off))
        return True

    def post_last(self, token: int, res: int, flags: int = 0) -> None:
        """The last of a request, which is never lost."""
        (self._overflow if self.full else self._cq).append((token, res, flags, 0))

    def drain(self, columns: Any) -> int:
        """Into ``struct pz_columns``, as a turn of the shim does; gives how many."""
        columns.n_data = columns.n_runs = columns.n_other = columns.bytes = 0
        columns.run_start[0] = 0
        columns.fresh = DRAINED
        while True:
            while self._cq and max(columns.n_data, columns.n_other) < columns.capacity:
                _deliver(columns, *self._cq.popleft())
            if not self._overflow or self._cq:
                break
            while self._overflow and len(self._cq) < self.entries:
                self._cq.append(self._overflow.popleft())
        columns.overflow = bool(self._overflow)
        columns.now_ns = time.monotonic_ns()
        return int(columns.n_data + columns.n_other)


def _deliver(c: Any, token: int, res: int, flags: int, off: int) -> None:
    if not (flags & CqeFlag.MORE and res > 0 and token >> 63):
        i = c.n_other
        c.other_token[i], c.other_res[i], c.other_flags[i] = token, res, flags
        c.n_other = i + 1
        return
    i = c.n_data
    c.token[i], c.off[i], c.len[i] = token, off, res
    c.n_data = i + 1
    c.bytes += res
    if not c.n_runs or c.run_token[c.n_runs - 1] != token:
        c.run_token[c.n_runs], c.run_start[c.n_runs], c.run_bytes[c.n_runs] = token, i, 0
        c.n_runs += 1
    c.run_bytes[c.n_runs - 1] += res
    c.run_start[c.n_runs] = i + 1

"""The preallocated columns that a turn is drained into, shared with the shim."""

from __future__ import annotations

from typing import Any, Literal

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._lease import TAKEN as TAKEN
from pyzcrx._lease import Turn

DRAINED = int(lib.PZ_DRAINED)
COUNTED = int(lib.PZ_COUNTED)
"""Its data counts already in the accounts of ifqs and requests."""

_COUNTS_AT = ffi.offsetof("struct pz_columns", "n_data")
_COUNTS_BYTES = ffi.sizeof("struct pz_columns") - _COUNTS_AT


def _count(name: str) -> int:
    """Where :attr:`Columns.counts` has it."""
    return int(ffi.offsetof("struct pz_columns", name) - _COUNTS_AT) // 8


_N_DATA, _N_RUNS, _BYTES = map(_count, ("n_data", "n_runs", "bytes"))
_OVERFLOW, _NOW_NS = map(_count, ("overflow", "now_ns"))
FRESH = _count("fresh")
"""Where :attr:`Columns.counts` says how far a turn got that was drained; 0: it is dealt with."""


class Columns:
    """What one turn drained, column by column; overwritten by the next turn.

    ``n_data`` data completions: ``tokens``, ``offs`` (uint64) and ``lengths``
    (uint32); ``n_runs`` runs of neighbours that belong to one request.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.turn = Turn(capacity)
        """The memory, as what counts and gives back knows it."""
        self.raw = ffi.from_buffer("struct pz_columns *", self.turn.shared)
        """The same, as the shim knows it."""
        self.tokens = self._column("token", "Q")
        self.offs = self._column("off", "Q")
        self.lengths = self._column("len", "I")
        self.run_starts = self._column("run_start", "I", capacity + 1)
        self.run_bytes = self._column("run_bytes", "Q")
        self.counts = memoryview(self.turn)[:_COUNTS_BYTES].cast("Q")
        self._other = (
            self._column("other_token", "Q"),
            self._column("other_res", "i"),
            self._column("other_flags", "I"),
        )

    def _column(self, name: str, form: Literal["Q", "I", "i"], n: int | None = None) -> memoryview:
        memory = memoryview(self.turn)
        start: Any = ffi.cast("char *", getattr(self.raw, name))
        at = start - (ffi.cast("char *", self.raw) + _COUNTS_AT)
        unit = ffi.sizeof(getattr(self.raw, name)[0:1])
        return memory[at : at + (n or self.capacity) * unit].cast(form)

    @property
    def n_data(self) -> int:
        return self.counts[_N_DATA]

    @property
    def n_bytes(self) -> int:
        """Of all that is data."""
        return self.counts[_BYTES]

    @property
    def overflow(self) -> bool:
        """Whether completions wait on the kernel's overflow list."""
        return self.counts[_OVERFLOW] != 0

    @property
    def now_ns(self) -> int:
        """The clock as the turn ended."""
        return self.counts[_NOW_NS]

    @now_ns.setter
    def now_ns(self, ns: int) -> None:
        self.counts[_NOW_NS] = ns

    def forget(self) -> None:
        """As after a turn that brought no data."""
        self.counts[_N_DATA] = self.counts[_N_RUNS] = self.counts[_BYTES] = 0

    def other(self, i: int) -> tuple[int, int, int]:
        """(token, res, flags) of completion *i* of those that are not data."""
        tokens, res, flags = self._other
        return tokens[i], res[i], flags[i]

"""The preallocated columns that a turn is drained into, shared with the shim."""

from __future__ import annotations

from typing import Literal

from pyzcrx._ffi import ffi, lib

FRESH = 6
"""Where :attr:`Columns.counts` says how far a turn got that was drained; 0: it is dealt with."""
DRAINED = int(lib.PZ_DRAINED)
COUNTED = int(lib.PZ_COUNTED)
"""Its data counts already in the accounts of ifqs and requests."""

_FORMATS: dict[str, Literal["Q", "I", "i"]] = {"uint64_t": "Q", "uint32_t": "I", "int32_t": "i"}


class Columns:
    """What one turn drained, column by column; overwritten by the next turn.

    ``n_data`` data completions: ``tokens``, ``offs`` (uint64) and ``lengths``
    (uint32); ``n_runs`` runs of neighbours that belong to one request.
    """

    def __init__(self, capacity: int) -> None:
        def array(ctype: str, n: int) -> tuple[object, memoryview]:
            memory = ffi.new(f"{ctype}[]", n)
            return memory, memoryview(ffi.buffer(memory)).cast(_FORMATS[ctype])

        self.capacity = capacity
        arrays = {
            "token": array("uint64_t", capacity),
            "off": array("uint64_t", capacity),
            "len": array("uint32_t", capacity),
            "run_token": array("uint64_t", capacity),
            "run_start": array("uint32_t", capacity + 1),
            "run_bytes": array("uint64_t", capacity),
            "other_token": array("uint64_t", capacity),
            "other_res": array("int32_t", capacity),
            "other_flags": array("uint32_t", capacity),
        }
        self._keep = [memory for memory, _ in arrays.values()]
        self.raw = ffi.new(
            "struct pz_columns *",
            {"capacity": capacity} | {name: memory for name, (memory, _) in arrays.items()},
        )
        self.address = int(ffi.cast("uintptr_t", self.raw))
        self.tokens = arrays["token"][1]
        self.offs = arrays["off"][1]
        self.lengths = arrays["len"][1]
        self.run_starts = arrays["run_start"][1]
        self.run_bytes = arrays["run_bytes"][1]
        first = ffi.offsetof("struct pz_columns", "n_data")
        self.counts = memoryview(ffi.buffer(self.raw))[first:].cast("Q")
        self._other = tuple(arrays[f"other_{name}"][1] for name in ("token", "res", "flags"))
        self.n_data = self.n_runs = self.n_other = self.n_bytes = 0
        self.overflow = self.now_ns = 0

    def refresh(self) -> None:
        """Take over the counts of a turn."""
        (
            self.n_data,
            self.n_runs,
            self.n_other,
            self.n_bytes,
            self.overflow,
            self.now_ns,
            _,
        ) = self.counts.tolist()

    def forget(self) -> None:
        """As after a turn that brought no data."""
        self.n_data = self.n_runs = self.n_bytes = 0

    def other(self, i: int) -> tuple[int, int, int]:
        """(token, res, flags) of completion *i* of those that are not data."""
        tokens, res, flags = self._other
        return tokens[i], res[i], flags[i]

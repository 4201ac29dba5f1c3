"""Something else in the place of the shim, for those modules that call it."""

from __future__ import annotations

from typing import Any

from pyzcrx import (
    descriptor,
    ifq,
    memory,
    operations,
    query,
    readiness,
    receive,
    refill,
    registration,
    ring,
)
from pyzcrx._ffi import lib

MODULES = (
    descriptor,
    ifq,
    memory,
    operations,
    query,
    readiness,
    receive,
    refill,
    registration,
    ring,
)


def put(shim: Any = lib) -> None:
    """Have every module call *shim*; without an argument the real one again."""
    for module in MODULES:
        vars(module)["lib"] = shim

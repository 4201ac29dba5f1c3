"""Another kernel in the place of the real one, for all that call the shim."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from pyzcrx._kernel._ffi import FUNCTIONS, lib
from pyzcrx.errors import NotSupported

HARMLESS = frozenset(
    {
        "pz_any",
        "pz_cookie",
        "pz_detach",
        "pz_dont_fork",
        "pz_drop_urgent",
        "pz_liburing_version",
        "pz_map_anonymous",
        "pz_map_fd",
        "pz_map_nothing",
        "pz_map_zeroes",
        "pz_ring_bytes",
        "pz_ring_free",
        "pz_ring_new",
        "pz_signal",
        "pz_signal_clear",
        "pz_signal_set",
        "pz_timer",
        "pz_timer_set",
        "pz_unmap",
        "pz_want_huge",
    }
)
"""Functions that enter no ring, and change no more than the process's memory and descriptors, or a
filter of a socket: they stay real."""


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise NotSupported(
            errno.EOPNOTSUPP,
            name,
            "the kernel in memory does not have it",
            "run this on a real kernel, or in the guest",
        )

    return refuse


def complete(functions: Mapping[str, Any]) -> dict[str, Any]:
    """Every function of the shim: of *functions*, real where harmless, else refused."""
    unknown = functions.keys() - FUNCTIONS.keys()
    assert not unknown, f"the shim has no {', '.join(sorted(unknown))}"
    return {
        name: functions.get(name) or (real if name in HARMLESS else _refusal(name))
        for name, real in FUNCTIONS.items()
    }


class StandIn:
    """*functions* in the place of the shim's, from :meth:`put` to :meth:`take_back`."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._functions = functions
        self._before: dict[str, Any] = {}

    def put(self) -> None:
        self._before = lib.replace(self._functions)

    def take_back(self) -> None:
        lib.replace(self._before)

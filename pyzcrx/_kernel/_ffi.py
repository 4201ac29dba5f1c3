"""The only module that imports the compiled binding.

Functions of the shim return -errno; :func:`check` turns that into the typed
error of the operation, in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyzcrx import _zcrx
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._zcrx import ffi

__all__ = ["FUNCTIONS", "Shim", "check", "ffi", "lib"]

_REAL = {name: getattr(_zcrx.lib, name) for name in dir(_zcrx.lib)}
FUNCTIONS = {name: value for name, value in _REAL.items() if callable(value)}
"""The functions of the shim, by name."""


class Shim:
    """What the shim has, as attributes of one object that every module shares.

    A function is looked up at each call, so that another kernel can take the place of the
    real one, at once and for every caller (:mod:`pyzcrx.testing`).
    """

    def __init__(self) -> None:
        vars(self).update(_REAL)

    if TYPE_CHECKING:  # else each look takes the long way

        def __getattr__(self, name: str) -> Any: ...

    def replace(self, functions: Mapping[str, Any]) -> dict[str, Any]:
        """Put *functions* in the place of those of the same names; gives those."""
        before = {name: vars(self)[name] for name in functions}
        vars(self).update(functions)
        return before


lib = Shim()


def check(result: int, operation: str, subject: str = "") -> int:
    """*result* where it is not negative, else the typed error that it stands for."""
    if result < 0:
        raise kernel_error(result, operation, subject)
    return result

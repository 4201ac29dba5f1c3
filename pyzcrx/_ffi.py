"""The only module that imports the compiled binding.

Functions of the shim return -errno; :func:`check` turns that into the typed
error of the operation, in one place.
"""

from __future__ import annotations

from pyzcrx._zcrx import ffi, lib
from pyzcrx.meanings import kernel_error

__all__ = ["check", "ffi", "lib"]


def check(result: int, operation: str, subject: str = "") -> int:
    """*result* where it is not negative, else the typed error that it stands for."""
    if result < 0:
        raise kernel_error(result, operation, subject)
    return result

"""Descriptors of our own for files that the user opened.

A request outlives many calls, and the number of a closed socket is soon the number of the
next connection. So each request keeps a duplicate of the descriptor it was given.
"""

from __future__ import annotations

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.meanings import typed
from pyzcrx._lease import Descriptor
from pyzcrx.errors import ClosedError


def hold(number: int, operation: str) -> Descriptor:
    """A duplicate of *number*; *operation* is what needs it.

    Raises the typed error of the operation for EBADF and EMFILE.
    """
    try:
        return Descriptor(number)
    except OSError as error:
        raise typed(error, operation, f"fd {number}") from None


class Cookie:
    """Which socket a descriptor named, for use after the duplicate was closed.

    Kernel: ``net/core/sock_diag.c:__sock_gen_cookie()``, SO_COOKIE (4.12): never used twice.
    """

    __slots__ = ("_value",)

    def __init__(self, number: int) -> None:
        self._value = _cookie(number)

    def check(self, held: Descriptor, number: int) -> None:
        """Raise ClosedError unless *held*, a duplicate of *number*, is the same socket."""
        if _cookie(held.number) != self._value:
            raise ClosedError(
                f"the request's socket was closed and fd {number} is another file now; "
                "keep the socket open until the request is over"
            )


def _cookie(number: int) -> int:
    value = ffi.new("uint64_t *")
    return int(value[0]) if not lib.pz_cookie(number, value) else 0

"""Tokens: the ``user_data`` of a request's SQE and of each of its CQEs. None is used twice.

That of a RECV_ZC has the number of its ifq and the slot of the request (csrc/roster.c); others
count up. The bits are those of csrc/cdef/ring.h.
"""

from __future__ import annotations

from pyzcrx._kernel._ffi import lib

TOKEN_RECEIVE = 1 << lib.PZ_TOKEN_RECEIVE_BIT
TOKEN_IFQ_SHIFT = int(lib.PZ_TOKEN_IFQ_SHIFT)
TOKEN_IFQ_MASK = lib.PZ_TOKEN_IFQ_MASK << TOKEN_IFQ_SHIFT
_SERIAL_MASK = TOKEN_RECEIVE - 1


class Serials:
    """Tokens of anything but a RECV_ZC."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """One never used before."""
        self._last = (self._last + 1) & _SERIAL_MASK
        return self._last

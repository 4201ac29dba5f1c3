"""Whether a send goes without a copy.

A notification has its price: references to pages, and one CQE more. In thousand instructions a
MiB (kernel, Linux 7.3, simulated NIC): 64 pages that lie apart cost 737 to 952 with a copy and
1,185 without, 64 KiB in one stretch 1,128 and 779. So zero copy is for bytes that lie in
long stretches, as large buffers (rx_buf_len) make them. Where memory bandwidth is short,
scattered pages are worth it too: ask for it.
"""

from __future__ import annotations

from pyzcrx._kernel._ffi import lib
from pyzcrx._lease import Iovec
from pyzcrx._send.stats import Copied

LEAST_BYTES = 16 << 10
"""Sends of fewer bytes are copied."""

LEAST_STRETCH_BYTES = 8 << 10
"""Sends whose stretches are shorter than this, on average, are copied."""

MOST_IOVECS = 64
"""Entries of one zero-copy request at most; 17 pages fill an SKB."""


def why_copied(asked: bool | None, pieces: Iovec, fd: int) -> Copied | None:
    """The reason to copy the bytes; None: they are sent without. *asked* None: what pays."""
    if asked is False:
        return Copied.ASKED
    if not pieces.lasting:
        return Copied.CHANGING
    if asked is None:
        if pieces.size_bytes < LEAST_BYTES:
            return Copied.SMALL
        if pieces.size_bytes < LEAST_STRETCH_BYTES * pieces.stretches:
            return Copied.SCATTERED
    if not pieces.size_bytes:
        return Copied.SMALL
    # An error here is one that the send itself will meet.
    return None if lib.pz_leaves(fd) == 1 else Copied.LOCAL

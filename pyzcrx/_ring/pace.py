"""How long a turn gathers completions before it returns: the numbers; csrc/pace.c reckons.

Waking for every packet costs more than the packet. While much arrives, a turn waits until
there is a batch worth it, or a short time is over; while little arrives, it returns with
the first completion, so that nobody who asks and answers waits. The short time is half as
long as much has been arriving, or twice the last one: the end of a message waits no longer.

Kernel: ``io_uring/wait.c:io_cqring_min_timer_wakeup()``, ``min_wait_usec`` (6.12).
"""

from __future__ import annotations

from pyzcrx import _lease

BUSY = 16
"""Buffers of a turn from which on the next one gathers."""
BUSY_BYTES = 56 << 10
"""Or bytes, where buffers are large. One GRO packet of 9,000-byte frames brings more; none brings
64 KiB, which includes its headers."""
ENOUGH = 1024
"""Buffers that make a batch worth its turn: of Python it costs as much as 30 slices of a
memoryview do, or the shim for 650 buffers (docs/explanation/performance.md)."""
MOST_US = 1000
"""Unless asked otherwise: from 33 Gbit/s on, in buffers of 4 KiB, there is enough before."""
_FIRST_US = 25


class Pace(_lease.Pace):
    """How much to gather and for how long, from what the turns before brought.

    At most *most_us*, and no more than half of a completion queue of *cq_entries*.
    """

    __slots__ = ()

    def __init__(self, most_us: int, cq_entries: int) -> None:
        self.most_us = most_us
        self.first_us = _FIRST_US
        self.busy = BUSY
        self.busy_bytes = BUSY_BYTES
        self.enough = max(1, min(ENOUGH, cq_entries // 2))

    def fit(self, buffers: int) -> None:
        """An area of so many buffers is among those to keep from running out."""
        self.enough = max(1, min(self.enough, buffers // 16))

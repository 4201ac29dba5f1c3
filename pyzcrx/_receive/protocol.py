"""The life of one receive request, as a state machine that does no I/O.

Completions go in, a :class:`Step` comes out; what to do about it is the
driver's. The kernel's answers are fewer than their meanings
(``io_uring/net.c:io_recvzc()``, ``io_uring/zcrx.c``, Linux 7.3):

* result 0 is the end of the stream, a reached limit, or a stream cut short at
  an urgent byte: the bytes counted and SIOCINQ tell which;
* ENOSPC says that the completion queue was full. Nothing is lost, but until the
  overflow list was flushed each further request ends the same way;
* ENOMEM says that no buffer was free to copy into. Buffers that were given back
  may lie where a copy cannot take them, so the refill queue must be flushed
  before anything else is concluded.
"""

from __future__ import annotations

import errno
from enum import Enum, auto

from pyzcrx._lease import Progress

FRUITLESS_FLUSHES = 3
"""How often ENOMEM is met by a flush alone, before a buffer must have come back.

More than one: the page pool's ring may hold back what one flush returned.
"""


class Step(Enum):
    """What a final completion asks of the driver."""

    CONFIRM_END = auto()
    """Ask SIOCINQ, then :meth:`ReceiveProtocol.confirm`."""
    LIMIT = auto()
    """The limit is reached."""
    ARM = auto()
    """Arm again at once: one arm's share of a longer limit was used up."""
    FLUSH_OVERFLOW = auto()
    """Empty the overflow list, then arm again."""
    FLUSH_REFILL = auto()
    """Flush the refill queue, then arm again."""
    FAIL = auto()
    """The request is over; the errno is the reason."""


class ReceiveProtocol(Progress):
    """One request, however often it is armed. *limit* in bytes; None: to the end.

    ``received`` are the bytes that ever came, told by ``data(size_bytes)``. ``arm()``, as it is
    armed, gives the ``len`` of the SQE.
    """

    __slots__ = ()

    def extend(self, limit: int | None) -> None:
        """*limit* more bytes (None: to the end) after the limit was reached."""
        self.limit = None if limit is None else self.received + limit

    def finish(self, res: int) -> Step:
        """The final completion of this arm, with result *res*."""
        if res >= 0:
            if self.armed_bytes and self.this_arm >= self.armed_bytes:
                return self._again(Step.ARM)
            return Step.CONFIRM_END
        if res == -errno.ENOSPC:
            return self._again(Step.FLUSH_OVERFLOW)
        if res == -errno.ENOMEM:
            self.fruitless += 1
            return self._again(Step.FLUSH_REFILL)
        return Step.FAIL

    def _again(self, step: Step) -> Step:
        """*step*, unless the limit was reached all the same."""
        return Step.LIMIT if self.reached else step

    @property
    def reached(self) -> bool:
        """Whether all was received that the limit allows."""
        return self.limit is not None and self.received >= self.limit

    @staticmethod
    def confirm(unread_bytes: int) -> bool:
        """Whether a result 0 was the end of the stream: nothing is left in the socket."""
        return unread_bytes == 0

    @property
    def worth_another_flush(self) -> bool:
        """Whether, after ENOMEM, arming again may help although no buffer came back."""
        return self.fruitless < FRUITLESS_FLUSHES

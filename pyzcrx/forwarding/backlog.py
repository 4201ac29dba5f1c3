"""How much of a connection may wait to be sent on, before its source is read no further.

A larger share means fewer turns: each time that a request has reached its limit costs a send, a
request that is armed again, and their completions. But what waits lies in the area, which is
everybody's. A stream that makes no progress for a while is read on beyond its share
(:mod:`pyzcrx._common.stalled`).
"""

from __future__ import annotations

from pyzcrx._common.stalled import RELIEF_BYTES
from pyzcrx._kernel.memory import PAGE

LEAST_BYTES = 256 << 10
MOST_BYTES = 1 << 20


class Backlog:
    """The share of each of some connections in an area of *area_bytes*.

    given_bytes: the share, whatever happens; None: a 16th of the area, less once more than
    four connections have a quarter of it together, within :data:`LEAST_BYTES` and
    :data:`MOST_BYTES`. In any case no connection gets more than a quarter of the area.
    directions: of how many streams each connection consists, which divide its share.
    """

    __slots__ = ("_given_bytes", "_most_bytes", "_quarter_bytes")

    def __init__(self, area_bytes: int, given_bytes: int | None, directions: int = 1) -> None:
        self._quarter_bytes = area_bytes // 4 // directions
        self._most_bytes = max(PAGE, self._quarter_bytes)
        self._given_bytes = given_bytes

    def share_bytes(self, connections: int) -> int:
        """That of a stream, while there are so many *connections*."""
        share_bytes = self._given_bytes
        if share_bytes is None:
            share_bytes = self._quarter_bytes // max(4, connections)
            share_bytes = max(LEAST_BYTES, min(share_bytes, MOST_BYTES))
        return min(share_bytes, self._most_bytes)

    def relief_bytes(self, connections: int, unsent_bytes: int) -> int:
        """How far a stream is read on that made no progress, with *unsent_bytes* waiting.

        In all one share more than is usual, or :data:`RELIEF_BYTES` where that is larger.
        """
        share_bytes = self.share_bytes(connections)
        usual_bytes = share_bytes + share_bytes // 2
        most_bytes = usual_bytes + min(max(share_bytes, RELIEF_BYTES), self._most_bytes)
        return max(0, min(most_bytes - unsent_bytes, RELIEF_BYTES))

"""How much of a connection may wait to be sent on, before its source is read no further.

A larger share means fewer turns: each time that a request has reached its limit costs a send, a
request that is armed again, and their completions. But what waits lies in the area, which is
everybody's.
"""

from __future__ import annotations

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

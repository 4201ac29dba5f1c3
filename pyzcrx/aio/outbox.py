"""What a connection sends by its ring: chunks from where they lie, and what is written behind them.

asyncio's transport copies what it is given. Chunks go by the ring (:meth:`pyzcrx.Ring.send`),
which gives them back once the kernel has accepted their bytes and, without a copy, the peer has
acknowledged them. The order of the stream is kept: chunks go by the ring only while the transport
holds nothing back, and while they are on their way all else follows them by the ring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from pyzcrx._receive.chunk import Chunk
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.outcomes import Failed
from pyzcrx._send.pieces import Piece
from pyzcrx._send.policy import LEAST_BYTES
from pyzcrx._send.send import Send
from pyzcrx._send.traffic import Traffic
from pyzcrx.aio.attach import Attached
from pyzcrx.ifq import Ifq


class _StreamSend(Send):
    """A send whose end goes to its outbox, not to who takes the ring's events."""

    __slots__ = ("_inbox",)

    def __init__(
        self, ring: RingCore, traffic: Traffic, sock: int, data: Piece, outbox: Outbox
    ) -> None:
        self._inbox = outbox
        asked = outbox.zero_copy if isinstance(data, Chunk) else None
        super().__init__(ring, traffic, sock, data, asked, outbox)

    @property
    def over(self) -> bool:
        """Whether its event was made."""
        return self._over


class Outbox:
    """Of one connection. Thread of the loop only."""

    def __init__(
        self,
        attached: Attached,
        ifq: Ifq,
        transport: asyncio.Transport,
        resume: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """resume: called when there is room again; failed: once or more, when a send failed."""
        self._attached = attached
        self._ring = ifq._core.ring
        self._traffic = cast("Traffic", ifq._delivery.traffic)
        self._transport = transport
        self._resume = resume
        self._failed = failed
        self.zero_copy: bool | None = None
        """As of :meth:`pyzcrx.Ring.send`."""
        self.incoming: list[Any] = []
        """Where the ring puts the ends of sends."""
        self._waits = 0
        """Sends that were not accepted yet."""
        self._nbytes = 0
        """Of those."""
        self._failure: Exception | None = None
        """What a send failed with."""
        self._then: list[Callable[[], None]] = []
        """What to do once nothing waits."""
        self._ended = False
        """Whether the end was written."""
        self.closing = False
        """Whether the connection is closed once nothing waits."""

    @property
    def busy(self) -> bool:
        """Whether sends of the ring were not accepted yet."""
        return self._waits > 0 and not self._ring.closed

    @property
    def full(self) -> bool:
        """Whether so much waits that writers should, too."""
        return self.busy and self._nbytes > self._limits[1]

    @property
    def _limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def takes(self, data: object) -> bool:
        """Whether *data* goes by the ring: if not, the transport writes it."""
        if self._ring.closed or self._transport.is_closing():
            return False
        if self._waits:
            return True
        least_bytes = 1 if self.zero_copy else LEAST_BYTES
        return (
            isinstance(data, Chunk)
            and len(data) >= least_bytes
            and not self._transport.get_write_buffer_size()
        )

    def write(self, data: Any) -> None:
        """Send it behind what was sent. A Chunk is given back when nothing reads it any more."""
        if self._ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not isinstance(data, Chunk | bytes):
            data = bytes(data)  # who wrote it may change it
        nbytes = len(data)
        if self.closing or not nbytes:
            if isinstance(data, Chunk):
                data._let_go()
            return
        sock = self._transport.get_extra_info("socket").fileno()
        try:
            send = _StreamSend(self._ring, self._traffic, sock, data, self)
        except BaseException:
            if isinstance(data, Chunk):
                data._let_go()
            raise
        self._waits += 1
        self._nbytes += nbytes
        self._attached._when_over(send, self.notify)

    def end(self, end: Callable[[], None]) -> None:
        """Have *end* write the end behind what was written."""
        self._ended = True
        self.when_sent(end)

    def close(self, close: Callable[[], None]) -> None:
        """Have *close* close the connection behind what was written."""
        self.closing = True
        self.when_sent(close)

    def when_sent(self, then: Callable[[], None]) -> None:
        """Call *then* once all that was written was accepted; at once if it is."""
        if self.busy:
            self._then.append(then)
        else:
            then()

    def notify(self) -> None:
        """A turn brought ends of sends. Idempotent."""
        while self.incoming:
            event = self.incoming[0]
            nbytes = event.request.size_bytes
            failure = event.error if isinstance(event, Failed) else self._failure
            # No call from here on: a signal handler may raise in one.
            self._waits -= 1
            self._nbytes -= nbytes
            self._failure = failure
            del self.incoming[0]
        if self._failure is not None:
            self._failed(self._failure)
        if self._ring.closed:
            self._waits = self._nbytes = 0  # no more ends come
        if self._nbytes <= self._limits[0]:
            self._resume()
        if not self._waits:
            while self._then:
                self._then.pop(0)()

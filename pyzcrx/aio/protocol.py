"""The protocol of asyncio programs that read bytes where they lie."""

from __future__ import annotations

import asyncio

from pyzcrx._receive.chunk import Chunk


class LeaseProtocol(asyncio.Protocol):
    """A protocol that is given leases on received bytes instead of copies.

    ::

        class Counter(pyzcrx.aio.LeaseProtocol):
            def chunk_received(self, chunk):
                with chunk:
                    for view in chunk.views():
                        consume(view)

    For :meth:`~asyncio.loop.create_server` and its like on a :class:`pyzcrx.aio.EventLoop`.
    A connection that the loop does not receive by zcrx, or any loop of others, brings copies in
    the same form. The other methods are those of :class:`asyncio.Protocol`.
    """

    def chunk_received(self, chunk: Chunk) -> None:
        """Bytes arrived. *chunk* is yours to release, now or later, from any thread.

        What you keep is missing in the area; while it runs low, connections stop.
        """
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Bytes that were copied before, as a chunk of their own."""
        self.chunk_received(Chunk([memoryview(data)], len(data)))

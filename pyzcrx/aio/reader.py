"""The reading end of a connection: asyncio's methods, and chunks that are not copied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self

from pyzcrx._common.checked import MOST_BYTES, integer, writable
from pyzcrx._receive.chunk import Chunk
from pyzcrx._receive.reading import Reading
from pyzcrx.aio.arrival import Arrival
from pyzcrx.aio.attach import Attached


class StreamReader:
    """The bytes of one TCP connection, in order. Made by :func:`~pyzcrx.aio.start_server`
    and :func:`~pyzcrx.aio.open_connection`.

    ::

        header = await reader.readexactly(8)
        async for chunk in reader:           # where the NIC put the bytes
            with chunk:
                for view in chunk.views():
                    consume(view)

    The methods of :class:`asyncio.StreamReader` copy once, into what they give. A cancelled call
    loses no byte. A connection that failed raises its error once what arrived does not suffice. A
    reader that does not read stops its peer by TCP. One call at a time; thread of the loop only.
    """

    def __init__(self, attached: Attached, reading: Reading, limit: int) -> None:
        """Use :func:`~pyzcrx.aio.start_server` or :func:`~pyzcrx.aio.open_connection`."""
        self._attached = attached
        self._reading = reading
        self._chunks = reading.chunks
        self._limit = limit
        self._waits = False
        self._closed = False
        self._failure: Exception | None = None
        self._arrival: Arrival | None = None

    # -- chunks -----------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """What arrived, not copied, yours to release; waits only while there is nothing."""
        chunks = self._chunks
        if self._waits or not chunks.has_bytes:
            if not (self._waits or self._told()):
                # As _wait() does, in one frame: with many connections that is most of what a
                # chunk costs.
                self._waits = True
                try:
                    await self._attached._change(self._reading.request)
                finally:
                    self._waits = False
            if self._waits or not chunks.has_bytes:
                await self._wait_for(1)
                if not chunks.has_bytes:
                    raise StopAsyncIteration
        return chunks.next_chunk()

    # -- asyncio's methods --------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """What is there, at most *n* bytes; waits only while there is none. -1: all to the end.

        ``b""``: the end. Raises the error that the connection failed with, ClosedError,
        BadArgument.
        """
        wanted = integer("n", n, -MOST_BYTES, MOST_BYTES)
        if wanted < 0:
            await self._wait_for(MOST_BYTES)
            return self._chunks.read(self._chunks.nbytes)
        await self._wait_for(min(wanted, 1))
        return self._chunks.read_some(wanted)

    async def readexactly(self, n: int) -> bytes:
        """*n* bytes.

        Raises asyncio.IncompleteReadError, with the bytes, where the stream ends before.
        """
        wanted = integer("n", n, 0, MOST_BYTES)
        await self._wait_for(wanted)
        there = self._chunks.nbytes
        if there < wanted:
            raise asyncio.IncompleteReadError(self._chunks.read(there), wanted)
        return self._chunks.read(wanted)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """All up to *separator*, which is included.

        Raises asyncio.IncompleteReadError, with the bytes, where the stream ends before;
        asyncio.LimitOverrunError where it is not among the first *limit* bytes, which stay.
        """
        end = -1

        def found() -> bool:
            nonlocal end
            end = self._chunks.find(separator)
            return end >= 0 or self._chunks.nbytes > self._limit

        await self._wait(found)
        there = self._chunks.nbytes
        if end - len(separator) > self._limit or (end < 0 and there > self._limit):
            text = "Separator is not found, and chunk exceed the limit"
            raise asyncio.LimitOverrunError(text, max(end, there))
        if end < 0:
            raise asyncio.IncompleteReadError(self._chunks.read(there), None)
        return self._chunks.read(end)

    async def readline(self) -> bytes:
        """A line, its end included; the last may lack it. ``b""``: the end of the stream.

        Raises ValueError for a line that is longer than *limit*; its bytes are dropped.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            end = self._chunks.find(b"\n")
            self._chunks.read(end if end >= 0 else self._chunks.nbytes)
            raise ValueError(error.args[0]) from None

    async def readinto(self, memory: Any) -> int:
        """Copy what is there into *memory*, in one pass; waits only while there is none.

        Gives how many bytes; 0: the end.
        """
        view = writable(memory)
        await self._wait_for(min(len(view), 1))
        return self._chunks.fill(view)

    def at_eof(self) -> bool:
        """Whether the peer ended the stream and all was read."""
        return self._chunks.nbytes == 0 and (self._chunks.ended or self._closed)

    def exception(self) -> Exception | None:
        """What the connection failed with."""
        return self._failure or (None if self._closed else self._chunks.failure)

    @property
    def zero_copy(self) -> bool:
        """Whether the NIC placed the bytes that came last in the area.

        False: the kernel copied them there, from another interface or queue, or by NODEV.
        """
        return self._arrival is not None and self._arrival.zero_copy

    @property
    def statistics(self) -> dict[str, int]:
        """Bytes handed out in place, gathered by one copy, and copied early to free the area."""
        chunks = self._chunks
        return {
            "viewed_bytes": chunks.viewed_bytes,
            "gathered_bytes": chunks.gathered_bytes,
            "spilled_bytes": chunks.spilled_bytes,
        }

    # -- waiting --------------------------------------------------------------------

    def _wait_for(self, n: int) -> Coroutine[Any, Any, None]:
        chunks = self._chunks
        # One byte can be seen without a look at all that came.
        return self._wait((lambda: chunks.has_bytes) if n == 1 else (lambda: chunks.nbytes >= n))

    async def _wait(self, enough: Callable[[], bool]) -> None:
        """Until there is *enough*, or the end."""
        if self._waits:
            raise RuntimeError("another coroutine is already waiting for incoming data")
        reading, chunks = self._reading, self._chunks
        self._waits = True
        try:
            while not enough():
                if self._told() and self._over():
                    return
                if chunks.limited:
                    reading.go_on()
                await self._attached._change(reading.request)
        finally:
            self._waits = False

    def _told(self) -> bool:
        """Whether there is something to look at beside bytes: an end, a failure, a limit."""
        chunks = self._chunks
        if self._closed or chunks.limited or chunks.ended or chunks.incoming:
            return True
        return chunks.failure is not None

    def _over(self) -> bool:
        """Whether nothing more is to come, after a look at all that came. Raises how it failed."""
        if self._chunks.at_end or self._chunks.ended:
            return True
        if self._closed and self._failure is None:
            return True
        failure = self.exception()
        if failure is not None:
            raise failure
        return False

    def _close(self, failure: Exception | None) -> None:
        """Our end was closed: what arrived can be read, then the stream ends, or fails."""
        self._closed = True
        self._failure = self._failure or failure
        self._chunks.spill()  # nobody may read it
        self._attached._nudge(self._reading.request)

    def __repr__(self) -> str:
        return f"<StreamReader {self._reading.request}>"

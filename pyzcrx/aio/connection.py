"""One connection on a loop: asyncio's transport writes, the ring receives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pyzcrx._receive.reading import Reading
from pyzcrx.aio.arrival import Arrival
from pyzcrx.aio.attach import Attached
from pyzcrx.aio.outbox import Outbox
from pyzcrx.aio.reader import StreamReader
from pyzcrx.aio.stall import Stall
from pyzcrx.aio.writer import StreamWriter
from pyzcrx.errors import BadArgument, ClosedError
from pyzcrx.ifq import Ifq


class Connection(asyncio.Protocol):
    """The protocol of a transport whose reading is paused for good."""

    def __init__(
        self,
        attached: Attached,
        ifq: Ifq,
        room_bytes: int | None,
        limit: int,
        handle: Callable[[StreamReader, StreamWriter], Awaitable[None] | None] | None,
        over: Callable[[], None] | None = None,
    ) -> None:
        """over: called once the connection is."""
        self._attached = attached
        self._ifq = ifq
        self._room_bytes = room_bytes
        self._limit = limit
        self._handle = handle
        self._when_over = over
        self._reading: Reading | None = None
        self._reader: StreamReader | None = None
        self._writer: StreamWriter | None = None
        self._outbox: Outbox | None = None
        self._task: asyncio.Future[None] | None = None
        """The handler's, kept while it runs."""
        self._failure: Exception | None = None
        self._stall: Stall | None = None
        self._paused = False
        self._lost = False
        self._drainers: set[asyncio.Future[None]] = set()
        self._over: asyncio.Future[None] = attached.loop.create_future()
        """Done once the peer was told that the connection ended."""

    # -- asyncio's side -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        transport.pause_reading()
        loop = self._attached.loop
        try:
            sock = transport.get_extra_info("socket")
            self._reading = self._ifq._reading(sock.fileno(), self._room_bytes)
            self._reader = StreamReader(self._attached, self._reading, self._limit)
            self._reader._arrival = Arrival(self._ifq, sock)
        except Exception as error:
            self._failure = error
            if self._reading is not None:
                self._reading.end()
                self._reading = None
            transport.abort()
            if self._handle is not None:
                context = {"message": "a connection cannot be received", "exception": error}
                loop.call_exception_handler(context)
            return
        self._writer = StreamWriter(transport, self, None, loop)
        self._stall = Stall(loop, sock, lambda: bool(self._drainers), lambda: self._reading)
        self._outbox = self._writer._outbox = Outbox(
            self._attached, self._ifq, transport, self._wake_drainers, self._send_failed
        )
        if self._handle is not None:
            self._run(self._handle(self._reader, self._writer), transport)

    def _run(self, result: Awaitable[None] | None, transport: asyncio.Transport) -> None:
        if result is None:
            return

        def done(task: asyncio.Future[None]) -> None:
            self._task = None
            assert self._writer is not None
            if task.cancelled():
                self._writer.close()
            elif (error := task.exception()) is not None:
                context = {
                    "message": "Unhandled exception in client_connected_cb",
                    "exception": error,
                    "transport": transport,
                }
                self._attached.loop.call_exception_handler(context)
                self._writer.close()

        self._task = asyncio.ensure_future(result, loop=self._attached.loop)
        self._task.add_done_callback(done)

    def data_received(self, data: bytes) -> None:
        """A loop that reads although it was told to pause: no byte may be missing unsaid."""
        if self._failure is None:
            self._failure = BadArgument(
                f"the loop read {len(data)} bytes of a paused connection: zero-copy streams "
                "do not work on it"
            )
            assert self._writer is not None
            self._writer.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._stall is not None:
            self._stall.end()
        exc = exc or self._failure
        if self._reader is not None and self._reader._arrival is not None:
            self._reader._arrival.note()
        for drainer in self._drainers:
            if not drainer.done():
                drainer.set_exception(exc) if exc else drainer.set_result(None)
        if self._reading is None:
            self._end(exc)
            return
        reading, reader = self._reading, self._reader
        assert reader is not None
        reader._close(exc)
        try:
            reading.request.cancel()
        except ClosedError:  # the ring was closed before
            self._finish(exc)
        else:
            self._attached._when_over(reading.request, lambda: self._finish(exc))

    def _finish(self, exc: Exception | None) -> None:
        """The request is over, and with it our duplicate of the socket: the peer sees the end."""
        assert self._reading is not None
        assert self._reader is not None
        self._reader._close(exc)  # what came last
        self._reading.leave()
        if self._outbox is None:
            self._end(exc)
        else:
            self._outbox.when_sent(lambda: self._end(exc))

    def _end(self, exc: Exception | None) -> None:
        if self._when_over is not None:
            self._when_over()
            self._when_over = None
        if not self._over.done():
            self._over.set_exception(exc) if exc else self._over.set_result(None)
            if exc is not None:
                self._over.exception()  # seen, whether anybody waits or not

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake_drainers()

    def _send_failed(self, error: Exception) -> None:
        if self._failure is None and self._writer is not None:
            self._failure = error
            self._writer.transport.abort()

    def _wake_drainers(self) -> None:
        for drainer in self._drainers:
            if not drainer.done():
                drainer.set_result(None)

    def eof_received(self) -> bool:
        return True  # never called: reading is paused

    # -- the writer's side ------------------------------------------------------------

    async def _drain_helper(self) -> None:
        """What asyncio.StreamWriter.drain() awaits."""
        if self._lost:
            raise ConnectionResetError("Connection lost")
        while self._paused or (self._outbox is not None and self._outbox.full):
            drainer: asyncio.Future[None] = self._attached.loop.create_future()
            self._drainers.add(drainer)
            if self._stall is not None:
                self._stall.begin()
            try:
                await drainer
            finally:
                self._drainers.discard(drainer)
            if self._lost:
                return

    def _get_close_waiter(self, _writer: Any) -> asyncio.Future[None]:
        """What asyncio.StreamWriter.wait_closed() awaits."""
        return asyncio.shield(self._over)  # one that is cancelled cancels it for no other

    # -- ours -------------------------------------------------------------------------

    def streams(self) -> tuple[StreamReader, StreamWriter]:
        """Both ends. Raises what kept the connection from being received."""
        if self._reader is None or self._writer is None:
            raise self._failure or ClosedError("the connection was lost at once")
        return self._reader, self._writer

"""A TCP transport that receives by zcrx, and sends as asyncio does.

Writing, closing and extra info are asyncio's own. Where the stock transport watches its socket
and calls recv(), this one has a receive request whose inbox the loop's turns fill. The request
is limited, so that a protocol that pauses reading stops its peer by TCP: nothing is cancelled for
a pause, and no more than the limit arrives meanwhile.

The request holds a descriptor of the socket. So connection_lost(), after which the socket is
closed, waits for the end of the request.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import selector_events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.request import Request
from pyzcrx.aio.protocol import LeaseProtocol
from pyzcrx.ifq import Ifq

_MOST_BYTES = 1 << 20
"""Of a connection at once: more falls out of the CPU's cache before it is read."""


class ZcTransport(selector_events._SelectorSocketTransport):  # type: ignore[misc,name-defined]
    """Made by the event loop, for connections that its ifq receives."""

    if TYPE_CHECKING:
        _sock: Any
        _loop: Any
        _protocol: Any
        _closing: bool
        _conn_lost: int

    def __init__(self, ifq: Ifq, loop: Any, sock: Any, *args: Any, **options: Any) -> None:
        self._ifq = ifq
        self._at_once_bytes = max(1, min(_MOST_BYTES, ifq.area.size_bytes // 16))
        self._chunks = Chunks()
        self._chunks.most_buffers = max(1, self._at_once_bytes // ifq.rx_buf_len)
        self._chunks.notify = self._soon
        self._request: Request | None = None
        self._context = contextvars.copy_context()
        self._wanted = False
        """Whether the protocol wants to be told of data."""
        self._ending = False
        """Whether it was told how the stream ended."""
        self._lost: tuple[BaseException | None] | None = None
        """connection_lost() waits for the request, with this."""
        super().__init__(loop, sock, *args, **options)

    @property
    def statistics(self) -> dict[str, int]:
        """Bytes handed out in place, gathered by one copy, and copied early to free the area."""
        return self._chunks.statistics

    @property
    def has_socket(self) -> bool:
        """Whether its descriptor is still its own: numbers are used again."""
        return self._sock is not None

    # -- when asyncio would watch the socket ------------------------------------

    def _add_reader(self, fd: int, callback: Any, *args: Any) -> None:  # noqa: ARG002
        if not self.is_reading() or self._loop.is_closed():
            return
        self._wanted = True
        if self._request is None:
            try:
                self._request = self._ifq.receive(self._sock, limit=self._at_once_bytes)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, "Fatal read error on socket transport")
                return
            self._ifq.collect_in(self._request, self._chunks)
        else:
            self._soon()

    def stop_receiving(self) -> bool:
        """The protocol wants no data for now, or, where it is closing, ever. As remove_reader()."""
        wanted, self._wanted = self._wanted, False
        if self._closing and self._request is not None:
            self._request.cancel()  # at once, so that it is over when connection_lost() is due
        return wanted

    def _soon(self) -> None:
        """Look at the inbox in this iteration of the loop, or the next."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon(self._arrived, context=self._context)

    # -- what arrived -------------------------------------------------------------

    @property
    def _hears(self) -> bool:
        return self._wanted and not self._conn_lost

    def _arrived(self) -> None:
        """The inbox got something, or the protocol wants data again."""
        chunks = self._chunks
        if self._lost is not None:
            self._lose()
            return
        while self._hears and chunks.nbytes:
            self._hand_over()
        if not self._hears or chunks.nbytes or self._ending:
            return
        if chunks.failure is not None:
            self._ending = True
            self._fatal_error(chunks.failure, "Fatal read error on socket transport")
        elif chunks.ended:
            self._ending = True
            self._read_ready__on_eof()
        elif chunks.limited:
            self._go_on()

    def _go_on(self) -> None:
        assert self._request is not None
        try:
            self._request.resume(self._at_once_bytes)
            self._chunks.limited = False
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal read error on socket transport")

    def _hand_over(self) -> None:
        """Give the protocol what there is, in the form that it takes."""
        protocol, chunks = self._protocol, self._chunks
        name, call, data = self._form(protocol, chunks)
        try:
            call(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, f"Fatal error: protocol.{name}() call failed.")

    def _form(
        self, protocol: asyncio.BaseProtocol, chunks: Chunks
    ) -> tuple[str, Callable[[Any], None], object]:
        """Which method is given what."""
        if isinstance(protocol, LeaseProtocol):
            return "chunk_received", protocol.chunk_received, chunks.next_chunk()
        if isinstance(protocol, asyncio.BufferedProtocol):
            return "get_buffer", self._fill, protocol
        receive: Any = protocol  # as asyncio, of any type
        return "data_received", receive.data_received, chunks.read(chunks.nbytes)

    def _fill(self, protocol: asyncio.BufferedProtocol) -> None:
        memory = memoryview(protocol.get_buffer(-1)).cast("B")
        if not memory.nbytes:
            raise RuntimeError("get_buffer() returned an empty buffer")
        protocol.buffer_updated(self._chunks.copy_into(memory))

    # -- the end ------------------------------------------------------------------

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        request = self._request
        if request is not None and not request.over and not self._ifq.ring.closed:
            request.cancel()
            self._lost = (exc,)
            return
        self._end(exc)

    def _lose(self) -> None:
        assert self._request is not None
        if self._lost is not None and self._request.over:
            (exc,), self._lost = self._lost, None
            self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        self._chunks.clear()
        if self._request is not None:
            self._ifq.collect_no_more(self._request)
            self._chunks.notify = None
        super()._call_connection_lost(exc)

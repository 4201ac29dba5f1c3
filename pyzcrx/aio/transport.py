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
from functools import partial
from typing import TYPE_CHECKING, Any

from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.reading import Reading
from pyzcrx.aio.arrival import Arrival
from pyzcrx.aio.protocol import LeaseProtocol
from pyzcrx.ifq import Ifq

_ROOM_BYTES = 2 << 20
"""Of a connection, half of it at once: more falls out of the CPU's cache before it is read."""
_PIECE_BYTES = 64 << 10
"""Of data_received() at once. The C library maps larger ones anew each time, and every page of
those is a fault."""
_FATAL_READ = "Fatal read error on socket transport"


class ZcTransport(selector_events._SelectorSocketTransport):  # type: ignore[misc,name-defined]
    """Made by the event loop, for connections that its ifq receives."""

    if TYPE_CHECKING:
        _sock: Any
        _loop: Any
        _protocol: Any
        _closing: bool
        _conn_lost: int

    def __init__(
        self,
        ifq: Ifq,
        over: Callable[[], None],
        loop: Any,
        sock: Any,
        *args: Any,
        **options: Any,
    ) -> None:
        """over: called once the connection is."""
        self._ifq = ifq
        self._over = over
        self._arrival = Arrival(ifq, sock)
        self._reading: Reading | None = None
        self._handle: asyncio.Handle | None = asyncio.Handle(
            self._arrived, (), loop, contextvars.copy_context()
        )
        """Made once, as asyncio makes that of a reader; None once the connection is over."""
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
        return (Chunks() if self._reading is None else self._reading.chunks).statistics

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's; ``"zero_copy"``: whether its last bytes were placed in the area."""
        if name == "zero_copy":
            return self._arrival.zero_copy
        return super().get_extra_info(name, default)

    @property
    def has_socket(self) -> bool:
        """Whether its descriptor is still its own: numbers are used again."""
        return self._sock is not None

    # -- when asyncio would watch the socket ------------------------------------

    def _add_reader(self, fd: int, callback: Any, *args: Any) -> None:  # noqa: ARG002
        if not self.is_reading() or self._loop.is_closed():
            return
        self._wanted = True
        if self._reading is None:
            room = max(2 * self._ifq.rx_buf_len, min(_ROOM_BYTES, self._ifq.area.size_bytes // 8))
            try:
                self._reading = self._ifq._reading(self._sock, room)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, _FATAL_READ)
                return
            self._reading.chunks.notify = self._soon
        self._soon()

    def stop_receiving(self) -> bool:
        """The protocol wants no data for now, or, where it is closing, ever. As remove_reader()."""
        wanted, self._wanted = self._wanted, False
        if self._closing and self._reading is not None:
            # At once, so that it is over when connection_lost() is due.
            self._reading.request.cancel()
        return wanted

    def _soon(self) -> None:
        """Look at the inbox in this iteration of the loop, or the next."""
        if self._handle is not None and not self._loop.is_closed():
            self._loop._add_callback(self._handle)

    # -- what arrived -------------------------------------------------------------

    def _arrived(self) -> None:
        """The inbox got something, or the protocol wants data again."""
        reading = self._reading
        if reading is None or self._lost is not None:
            self._lose()
            return
        chunks = reading.chunks
        while self._wanted and not self._conn_lost and chunks.has_bytes:
            self._hand_over(chunks)
        if not self._wanted or self._conn_lost or chunks.nbytes or self._ending:
            return
        if chunks.failure is not None:
            self._ending = True
            self._fatal_error(chunks.failure, _FATAL_READ)
        elif chunks.ended:
            self._ending = True
            self._read_ready__on_eof()
        else:
            self._go_on(reading)

    def _go_on(self, reading: Reading) -> None:
        try:
            reading.go_on()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, _FATAL_READ)

    def _hand_over(self, chunks: Chunks) -> None:
        """Give the protocol what there is, in the form that it takes."""
        name, call, data = self._form(self._protocol, chunks)
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
            return "get_buffer", partial(self._fill, protocol), chunks
        receive: Any = protocol  # as asyncio, of any type
        return "data_received", receive.data_received, chunks.read_some(_PIECE_BYTES)

    def _fill(self, protocol: asyncio.BufferedProtocol, chunks: Chunks) -> None:
        memory = memoryview(protocol.get_buffer(-1)).cast("B")
        if not memory.nbytes:
            raise RuntimeError("get_buffer() returned an empty buffer")
        protocol.buffer_updated(chunks.fill(memory))

    # -- the end ------------------------------------------------------------------

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        self._lost = (exc,)
        if self._reading is not None and not self._ifq._core.ring.closed:
            self._reading.request.cancel()
        self._lose()

    def _lose(self) -> None:
        """connection_lost() is due: call it if the request is over."""
        reading = self._reading
        if self._lost is None:
            return
        if reading is not None:
            if not reading.request.over and not self._ifq._core.ring.closed:
                return
            reading.chunks.notify = None
            reading.end()
        (exc,), self._lost = self._lost, None
        self._handle = None  # it refers to us
        self._arrival.note()
        self._over()
        super()._call_connection_lost(exc)

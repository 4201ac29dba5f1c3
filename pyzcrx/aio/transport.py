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
from pyzcrx.aio.stall import Stall
from pyzcrx.ifq import Ifq

_ROOM_BYTES = 2 << 20
"""Of a connection among many, half of it at once."""
_PIECE_BYTES = 64 << 10
"""Of data_received() at once. The C library maps larger ones anew each time that two of them are
freed, and every page of those is a fault."""
_FATAL_READ = "Fatal read error on socket transport"


class ZcTransport(selector_events._SelectorSocketTransport):  # type: ignore[misc,name-defined]
    """Made by the event loop, for connections that its ifq receives."""

    if TYPE_CHECKING:
        _sock: Any
        _loop: Any
        _protocol: Any
        _closing: bool
        _conn_lost: int
        _paused: bool

    _give: Callable[[ZcTransport, Chunks], None]
    """How the protocol takes bytes; it raises what the protocol does."""
    _given: str
    """The name of what that calls."""

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
        self._rx_buf_len = ifq.rx_buf_len
        self._over = over
        self._arrival = Arrival(ifq, sock)
        self._reading: Reading | None = None
        self._context = contextvars.copy_context()
        self._wanted = False
        """Whether the protocol wants to be told of data."""
        self._ending = False
        """Whether it was told how the stream ended."""
        self._lost: tuple[BaseException | None] | None = None
        """connection_lost() waits for the request, with this."""
        self._stall = Stall(loop, sock, self._sends, lambda: self._reading)
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
        if self._paused or self._closing or self._loop.is_closed():
            return
        self._wanted = True
        if self._reading is None:
            try:
                self._reading = self._ifq._reading(self._sock, self._room_bytes())
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, _FATAL_READ)
                return
            later = self._loop.get_debug()  # it tells of slow callbacks
            self._reading.chunks.notify = (
                self._arrive_later if later else partial(self._context.run, self._arrived)
            )
        self._reading.notify()

    def _room_bytes(self) -> int:
        """The first connections share an eighth of the area: a limit reached costs a turn."""
        ifq = self._ifq
        most = ifq.area.size_bytes // 8
        share = most // (1 + ifq._core.ring.readers)
        return max(2 * ifq.rx_buf_len, min(most, max(_ROOM_BYTES, share)))

    def stop_receiving(self) -> bool:
        """The protocol wants no data for now, or, where it is closing, ever. As remove_reader()."""
        wanted, self._wanted = self._wanted, False
        if self._closing and self._reading is not None:
            # At once, so that it is over when connection_lost() is due.
            self._reading.request.cancel()
        return wanted

    def pause_reading(self) -> None:
        """As asyncio's, which asks the loop to watch the socket no longer."""
        if self._loop is None or self._loop.get_debug():
            super().pause_reading()
        elif self.is_reading():
            self._paused = True
            self._wanted = False

    def _arrive_later(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon(self._arrived, context=self._context)

    # -- what arrived -------------------------------------------------------------

    def _arrived(self) -> None:
        """The inbox got something, or the protocol wants data again.

        Called by the loop, in the iteration in which its selector brought that.
        """
        reading = self._reading
        if reading is None or self._lost is not None:
            if self._loop is not None:
                self._loop.call_soon(self._lose, context=self._context)
            return
        chunks = reading.chunks
        while self._wanted and not self._conn_lost and chunks.has_bytes:
            try:
                self._give(self, chunks)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, f"Fatal error: {self._given}() call failed.")
        if not self._wanted or self._conn_lost or self._ending:
            return
        if chunks.incoming:  # no bytes any more
            chunks.absorb()
        if chunks.failure is not None:
            self._ending = True
            self._fatal_error(chunks.failure, _FATAL_READ)
        elif chunks.ended:
            self._ending = True
            self._read_ready__on_eof()
        elif chunks.limited:
            self._go_on(reading)

    def _go_on(self, reading: Reading) -> None:
        try:
            reading.go_on()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, _FATAL_READ)

    # -- the forms in which a protocol takes it -----------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As asyncio's."""
        super().set_protocol(protocol)
        # Functions, not methods: those would refer to us.
        if isinstance(protocol, LeaseProtocol):
            self._given, self._give = "protocol.chunk_received", ZcTransport._give_chunk
        elif isinstance(protocol, asyncio.BufferedProtocol):
            self._given, self._give = "protocol.get_buffer", ZcTransport._fill
        elif type(protocol) is asyncio.StreamReaderProtocol:
            self._given, self._give = "protocol.data_received", ZcTransport._give_reader
        else:
            self._given, self._give = "protocol.data_received", ZcTransport._give_bytes

    def _give_chunk(self, chunks: Chunks) -> None:
        self._protocol.chunk_received(chunks.next_chunk())

    def _give_bytes(self, chunks: Chunks) -> None:
        self._protocol.data_received(chunks.read_some(_PIECE_BYTES))

    def _give_reader(self, chunks: Chunks) -> None:
        """Put all but the last buffer where asyncio's reader would copy it, which saves a copy.

        The last one is given as ever, so that the reader wakes who waits, and pauses.
        """
        protocol = self._protocol
        most, last = self.max_size, self._rx_buf_len
        reader = protocol._stream_reader
        if type(reader) is asyncio.StreamReader and type(reader._buffer) is bytearray:  # type: ignore[attr-defined]
            most -= chunks.move(reader._buffer, most - last, last)  # type: ignore[attr-defined]
        protocol.data_received(chunks.read_some(most))

    def _fill(self, chunks: Chunks) -> None:
        protocol = self._protocol
        memory = memoryview(protocol.get_buffer(-1)).cast("B")
        if not memory.nbytes:
            raise RuntimeError("get_buffer() returned an empty buffer")
        protocol.buffer_updated(chunks.fill(memory))

    # -- while it cannot send -------------------------------------------------------

    def _sends(self) -> bool:
        return self.get_write_buffer_size() > 0 and not self._conn_lost

    def _maybe_pause_protocol(self) -> None:
        """As asyncio's, which calls it when something waits to be sent."""
        super()._maybe_pause_protocol()
        self._stall.begin()

    # -- the end ------------------------------------------------------------------

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        self._lost = (exc,)
        self._stall.end()
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
        self._arrival.note()
        self._over()
        super()._call_connection_lost(exc)

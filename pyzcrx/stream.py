"""A connection as a file: the blocking byte stream over a ring."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from pyzcrx._common.checked import MOST_BYTES, integer, seconds, writable
from pyzcrx._common.leaving import leave
from pyzcrx._receive.chunk import Chunk
from pyzcrx._receive.delivery import Delivery
from pyzcrx._receive.reading import Reading
from pyzcrx.errors import ClosedError, IncompleteRead

_CLOSE_S = 2.0
"""How long close() waits for the end of a request that was cancelled."""


class Stream(io.RawIOBase):
    """The bytes of one TCP connection, in order. Made by :meth:`pyzcrx.Ifq.stream`.

    ::

        with ifq.stream(sock) as stream:
            header = stream.readexactly(8)
            for chunk in stream:            # where the NIC put the bytes
                with chunk:
                    for view in chunk.views():
                        consume(view)

    A binary file for all that reads files: ``pickle.load``, ``json.load``, ``tarfile``,
    ``gzip``, ``shutil.copyfileobj``, ``io.BufferedReader``, ``pyarrow.ipc.open_stream``. Only its
    iterator gives chunks, not lines: ``io.BufferedReader(stream)`` gives lines.

    The stream ends only where the peer ended it. If the connection fails, each method raises
    the error (:class:`~pyzcrx.errors.ReceiveError`, :class:`~pyzcrx.errors.UrgentDataLost`)
    once what arrived does not suffice; ``readinto`` and ``read1`` still read that. A method that
    raises, TimeoutError and KeyboardInterrupt included, loses no byte: call it again.

    It is received only as far as the stream has room (``room_bytes``): a peer that sends more
    is stopped by TCP. A stream that reads turns the ring; what that brings for others is kept
    for them. Owner thread only.
    """

    def __init__(
        self,
        delivery: Delivery,
        reading: Reading,
        sock: object,
        timeout: float | None,
    ) -> None:
        """Use :meth:`pyzcrx.Ifq.stream`."""
        self._delivery = delivery
        self._reading = reading
        self._request = reading.request
        self._chunks = reading.chunks
        self._ring = self._request._ifq.ring
        self._sock = sock  # forgotten, it would be closed
        self.timeout = timeout

    # -- reading --------------------------------------------------------------

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, n: int | None = -1, /) -> bytes:
        """*n* bytes, fewer only at the end of the stream; without *n*: all to its end.

        Raises the error that the connection failed with, TimeoutError, ClosedError,
        WrongThread, BadArgument (*n*).
        """
        wanted = _at_most("n", n)
        self._wait_for(wanted)
        return self._chunks.read(min(wanted, self._chunks.nbytes))

    def readall(self) -> bytes:
        """All bytes to the end of the stream. Raises as :meth:`read` does."""
        return self.read()

    def read1(self, n: int = -1, /) -> bytes:
        """What is there, at most *n* bytes; waits only while there is none.

        ``b""``: the end. Raises as :meth:`read` does.
        """
        wanted = _at_most("n", n)
        self._wait_for(min(wanted, 1))
        return self._chunks.read(min(wanted, self._chunks.nbytes))

    def readexactly(self, n: int, /) -> bytes:
        """*n* bytes.

        Raises IncompleteRead, with the bytes, where the stream ends before; else as
        :meth:`read` does.
        """
        wanted = integer("n", n, 0, MOST_BYTES)
        self._wait_for(wanted)
        there = self._chunks.nbytes
        if there < wanted:
            self._raise_incomplete(there, wanted)
        return self._chunks.read(wanted)

    def readuntil(self, separator: bytes = b"\n", /) -> bytes:
        """All up to *separator*, which is included.

        Raises IncompleteRead, with the bytes, where the stream ends before; BadArgument where
        the separator is empty; else as :meth:`read` does.
        """
        end = self._wait_until(separator)
        if end < 0:
            self._raise_incomplete(self._chunks.nbytes, None)
        return self._chunks.read(end)

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line, its end included; at most *size* bytes. The last may lack its end.

        Raises as :meth:`read` does.
        """
        most = _at_most("size", size)
        end = self._wait_until(b"\n", most)
        return self._chunks.read(min(most, self._chunks.nbytes if end < 0 else end))

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """All lines to the end of the stream, however many bytes *hint* asks for.

        Raises as :meth:`read` does.
        """
        _at_most("hint", hint)
        return io.BytesIO(self.read()).readlines()

    def readinto(self, memory: Any, /) -> int:
        """Copy what is there into *memory*, in one pass; waits only while there is none.

        Gives how many bytes; 0: the end. Raises as :meth:`read` does, and BadArgument where
        *memory* cannot be written.
        """
        view = writable(memory)
        self._wait_for(min(len(view), 1))
        return self._chunks.copy_into(view)

    def __iter__(self) -> Iterator[Chunk]:  # type: ignore[override]
        self._check()
        return self._delivery.chunks(self._request, self._chunks, self._next)

    def _next(self) -> Chunk:
        """As :meth:`__next__`, after a turn that nobody looked at."""
        self._check()
        self._delivery.relieve()
        return self.__next__()

    def __next__(self) -> Chunk:  # type: ignore[override]
        """What arrived, not copied, yours to release; waits only while there is nothing.

        Raises as :meth:`read` does.
        """
        self._wait_for(1)
        if not self._chunks.has_bytes:
            raise StopIteration
        return self._chunks.next_chunk()

    # -- waiting --------------------------------------------------------------

    @property
    def timeout(self) -> float | None:
        """How many seconds a call waits while nothing arrives; None: for ever."""
        return self._timeout

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        self._timeout = None if value is None else seconds("timeout", value)
        self._chunks.patient = value is None and not self.closed

    @property
    def at_end(self) -> bool:
        """Whether the peer ended the stream and all was read. Waits for nothing."""
        return self._chunks.at_end

    @property
    def statistics(self) -> dict[str, int]:
        """Bytes handed out in place, gathered by one copy, and copied early to free the area."""
        return self._chunks.statistics

    def write(self, _data: Any, /) -> int:
        """Streams only read: raises io.UnsupportedOperation. Send with the socket."""
        raise io.UnsupportedOperation("a stream is not writable; send with its socket")

    def fileno(self) -> int:
        """None that could be read past the stream: raises io.UnsupportedOperation."""
        raise io.UnsupportedOperation("a stream has no descriptor; poll that of the ring")

    def _check(self) -> None:
        if self.closed:
            raise ClosedError("the stream was closed")
        self._ring.check_usable()

    def _wait_for(self, n: int) -> None:
        chunks = self._chunks
        # One byte can be seen without a look at all that came.
        self._wait((lambda: chunks.has_bytes) if n == 1 else (lambda: chunks.nbytes >= n))

    def _wait_until(self, separator: bytes, most: int = MOST_BYTES) -> int:
        """Where the separator ends; -1: not before the end of the stream or *most* bytes."""
        end = -1

        def found() -> bool:
            nonlocal end
            end = self._chunks.find(separator)
            return end >= 0 or self._chunks.nbytes >= most

        self._wait(found)
        return end

    def _wait(self, enough: Callable[[], bool]) -> None:
        """Turn the ring until there is *enough*, or the end."""
        self._check()
        chunks = self._chunks
        timeout_ns = -1 if self._timeout is None else int(self._timeout * 1e9)
        seen, until_ns, left_ns = -1, 0, timeout_ns
        while not enough() and not (chunks.at_end or chunks.ended):
            if chunks.failure is not None:
                raise chunks.failure
            if timeout_ns >= 0:
                now_ns = time.monotonic_ns()
                if chunks.nbytes != seen:
                    seen, until_ns = chunks.nbytes, now_ns + timeout_ns
                elif now_ns >= until_ns:
                    raise TimeoutError(f"nothing arrived on the stream for {self._timeout} s")
                left_ns = max(0, until_ns - now_ns)
            self._reading.go_on()
            self._delivery.collect(left_ns)

    def _raise_incomplete(self, there: int, wanted: int | None) -> None:
        error = IncompleteRead(self._chunks.gather(there), wanted)
        self._chunks.drop(there)
        raise error

    # -- the end --------------------------------------------------------------

    def close(self) -> None:
        """End the request and give everything back; what was not read is lost. Idempotent.

        The socket stays open. Buffers that you have stay yours. Raises WrongThread.
        """
        if self.closed:
            return
        if not self._ring.closed:
            self._ring.check_usable()
        try:
            self._end_request()
        finally:
            super().close()

    def _end_request(self) -> None:
        ring, request, chunks = self._ring, self._request, self._chunks
        try:
            if not ring.closed:
                request.cancel()
                until_ns = time.monotonic_ns() + int(_CLOSE_S * 1e9)
                while not request.over and (left_ns := until_ns - time.monotonic_ns()) > 0:
                    self._delivery.collect(left_ns)
                    chunks.clear()
        finally:
            self._reading.end()

    def __del__(self) -> None:
        # Not close(): it turns the ring, and this may run within a turn of it.
        if "_chunks" in self.__dict__ and not self.closed and not self._ring.closed:
            self._reading.forget()
            warnings.warn("a Stream was dropped without close()", ResourceWarning, stacklevel=2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave(error, self.close)

    def __repr__(self) -> str:
        return f"<Stream {'closed' if self.closed else self._request}>"


def _at_most(name: str, value: int | None) -> int:
    """A number of bytes; None and -1: all there are."""
    return MOST_BYTES if value is None or value == -1 else integer(name, value, 0, MOST_BYTES)

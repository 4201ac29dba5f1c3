"""A recording: so many connections, each into files of its own."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from pyzcrx._receive.events import Accepted, Event, Failed
from pyzcrx._receive.request import Request
from pyzcrx._send.accept import Accept
from pyzcrx.cli.acceptor import Acceptor, close_by_reset, end
from pyzcrx.errors import Cancelled, ZcrxError
from pyzcrx.ifq import Ifq
from pyzcrx.record.pages import set_rcvbuf
from pyzcrx.record.recorder import SYNC_BYTES, Recorded, Recorder
from pyzcrx.record.series import FileSeries
from pyzcrx.record.stats import RecordStats
from pyzcrx.ring import Ring

_STOP_TIMEOUT_S = 5.0


class Session:
    """Accepts as many connections on *listener* as there are *outputs*, in their order.

    A connection that is recorded to its end is closed once all of it is on disk; the peer sees
    the end of the stream. One that is not is reset. So a peer that waits for the end knows. The
    listener is closed once all connections are there; further ones are refused.

    rcvbuf_bytes: SO_RCVBUF of each connection. sync_bytes: as of :class:`Recorder`.
    begun: called with each connection and its output. ended: called with the figures of each
    that is over, before its connection is closed. Owner thread of *ring* only.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        listener: socket.socket,
        outputs: Sequence[FileSeries],
        *,
        rcvbuf_bytes: int | None = None,
        sync_bytes: int = SYNC_BYTES,
        begun: Callable[[socket.socket, FileSeries], None] = lambda _sock, _output: None,
        ended: Callable[[RecordStats], None] = lambda _stats: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._ifq = ifq
        self._listener = listener
        self._outputs = list(outputs)
        self._waiting = deque(outputs)
        self._rcvbuf_bytes = rcvbuf_bytes
        self._begun = begun
        self._ended = ended
        self._clock = clock
        self._socks: dict[Request, socket.socket] = {}
        self._done: dict[FileSeries, RecordStats] = {}
        self._stopping = False
        self._recorder = Recorder(sync_bytes, end)
        self._acceptor = Acceptor(ring, listener, len(outputs), clock)

    @property
    def done(self) -> bool:
        """Whether every output has had its connection, and that is over."""
        return not self._waiting and not self._socks

    @property
    def whole(self) -> bool:
        """Whether all streams are on disk, to the end that their peers gave them."""
        return len(self._done) == len(self._outputs) and all(
            stats.whole for stats in self._done.values()
        )

    @property
    def receiving(self) -> int:
        """Connections that are recorded now."""
        return len(self._socks)

    def streams(self) -> list[RecordStats]:
        """Each output's figures, so far."""
        return [self._done.get(output) or _stats(output, None) for output in self._outputs]

    def turn(self, timeout: float | None) -> None:
        """Wait for something, at most *timeout* seconds, and deal with all of it.

        Raises InterfaceGone once the NIC was taken away and connections are still missing.
        """
        waits = (timeout, self._acceptor.wait_s())
        batch = self._ring.wait(min((s for s in waits if s is not None), default=None))
        self._acceptor.resume()
        self._recorder.take(batch)
        for event in batch.events:
            self._handle(event)
        if self._ifq.gone is not None and self._waiting and not self._stopping:
            raise self._ifq.gone

    def _handle(self, event: Event) -> None:
        match event:
            case Accepted(fd=fd):
                if self._acceptor.admit(fd, len(self._outputs) - len(self._waiting)):
                    self._begin(socket.socket(fileno=fd))
            case Failed(request=Accept() as accept, error=error):
                self._acceptor.failed(accept, error)
            case _:
                if (recorded := self._recorder.ended(event)) is not None:
                    self._finish(recorded)

    def _begin(self, sock: socket.socket) -> None:
        if self._stopping:
            _reset(sock)
            return
        try:
            if self._rcvbuf_bytes is not None:
                set_rcvbuf(sock, self._rcvbuf_bytes)
            request = self._ifq.receive(sock)
        except (OSError, ZcrxError):
            _reset(sock)  # the next connection may have its place
            return
        output = self._waiting.popleft()
        self._socks[request] = sock
        self._recorder.begin(request, output)
        self._begun(sock, output)
        if not self._waiting:
            self._acceptor.stop()
            self._listener.close()

    def _finish(self, recorded: Recorded) -> None:
        sock = self._socks.pop(recorded.request)
        error = recorded.error
        if isinstance(error, Cancelled):
            error = _unfinished()
        self._end(recorded.file, error)
        if error is None:
            sock.close()
        else:
            _reset(sock)

    def _end(self, output: FileSeries, error: ZcrxError | None) -> None:
        stats = self._done[output] = _stats(output, error)
        stats.whole = error is None
        self._ended(stats)

    def stop(self) -> None:
        """Accept no more, and end what is under way: what has arrived is recorded."""
        self._stopping = True
        self._acceptor.stop()
        for request in list(self._socks):
            end(request)
        until = self._clock() + _STOP_TIMEOUT_S
        while self._socks and (left := until - self._clock()) > 0:
            self.turn(left)

    def close(self) -> None:
        """Have all that was received on disk, and close everything. After the ring's close."""
        for recorded in self._recorder.abandon(_unfinished()):
            self._finish(recorded)
        self._recorder.close()
        while self._waiting:
            output = self._waiting.popleft()
            output.remove_if_unused()
            self._end(output, ZcrxError("no connection came for it"))
        self._acceptor.close()
        self._listener.close()


def _unfinished() -> ZcrxError:
    return ZcrxError("the recording was stopped before the stream's end")


def _reset(sock: socket.socket) -> None:
    close_by_reset(sock.fileno())
    sock.close()


def _stats(output: FileSeries, error: ZcrxError | None) -> RecordStats:
    return RecordStats(
        files=[str(path) for path in output.paths],
        begun_at=output.begun_at,
        position=output.position,
        synced_bytes=output.synced_bytes,
        copied_bytes=output.copied_bytes,
        whole=False,
        error=None if error is None else str(error),
    )

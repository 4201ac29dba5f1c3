"""A ring of plain Unix sockets, for servers: peers are real, and all that comes is there at once.

Its clock goes on only where a turn waits and nothing comes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import tempfile
from collections import deque
from types import TracebackType
from typing import Any, Self, cast

from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._receive.batch import Batch, Run
from pyzcrx._receive.events import Accepted, End, Event, Failed, Limit, Sent
from pyzcrx._receive.request import Request
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send
from pyzcrx.errors import KernelError, ZcrxError

PAGE = 4096
TURN_BYTES = 64 * PAGE


class PlainAccept(Accept):
    def __init__(self, ring: PlainRing, listener: socket.socket) -> None:
        self._plain = ring
        self.listener = listener

    def cancel(self) -> None:
        self._plain.end_accept(self, errno.ECANCELED)


class PlainSend(Send):
    def __init__(self, ring: PlainRing, fd: int, buffers: Any, context: object) -> None:
        self._plain = ring
        self.fd = fd
        self.buffers = buffers
        self.context = context
        self.size_bytes = sum(map(len, buffers))
        self.left = b"".join(map(bytes, buffers))

    @property
    def done(self) -> bool:
        return self not in self._plain.sending

    def abort(self) -> None:
        raise AssertionError("what was copied needs no reset")


class PlainRequest(Request):
    def __init__(self, ifq: PlainIfq, fd: int, limit: int | None, context: object) -> None:
        self._plain = ifq.ring
        self.fd = fd
        self.left = limit
        self.context = context

    def resume(self, limit: int | None = None) -> None:
        self._plain.refuse("resume")
        self.left = limit
        self._plain.receiving.append(self)

    def cancel(self) -> None:
        self._plain.refuse("cancel")
        self._plain.fail(self, kernel_error(errno.ECANCELED, "receive"))


class PlainBatch:
    def __init__(self, pieces: list[tuple[PlainRequest, bytes]], events: list[Event]) -> None:
        self._pieces = pieces
        self.events = events

    def runs(self) -> list[Run]:
        batch = cast("Batch", self)
        return [
            Run(request, i, i + 1, len(data), batch)
            for i, (request, data) in enumerate(self._pieces)
        ]

    def view(self, request: Request, i: int) -> bytes:
        assert self._pieces[i][0] is request
        return self._pieces[i][1]

    buffer = view

    def _views(self, run: Run) -> list[bytes]:
        return [self.view(run.request, i) for i in range(run.start, run.stop)]

    _take = _views

    def release(self) -> None: ...


class PlainIfq:
    def __init__(self, ring: PlainRing) -> None:
        self.ring = ring
        self.gone: KernelError | None = None
        self.rx_buf_len = PAGE
        self.crowded = False

    @property
    def _core(self) -> PlainIfq:
        return self

    def receive(self, fd: int, *, limit: int | None = None, context: object = None) -> PlainRequest:
        if self.gone is not None:
            raise self.gone
        self.ring.refuse("receive")
        request = PlainRequest(self, fd, limit, context)
        self.ring.receiving.append(request)
        return request


class PlainRing:
    """descriptors: how many connections fit at a time; then accepting fails with EMFILE."""

    def __init__(self, descriptors: int = 1000) -> None:
        self.now = 1000.0
        self.descriptors = descriptors
        self.refusals: dict[str, ZcrxError] = {}
        """What the next call of each name raises."""
        self.held: ZcrxError | None = None
        """What the next turn raises."""
        self.receiving: list[PlainRequest] = []
        self.sending: list[PlainSend] = []
        self._accepts: list[PlainAccept] = []
        self._accepted: list[tuple[int, str]] = []
        """Descriptors and what they are."""
        self._posted: deque[Event] = deque()
        self._folder = tempfile.TemporaryDirectory()
        self.listener = socket.socket(socket.AF_UNIX)
        self.address = os.path.join(self._folder.name, "listener")
        self.listener.bind(self.address)
        self.listener.listen(4096)
        self.clients: list[socket.socket] = []

    # -- the outside world ----------------------------------------------------

    def clock(self) -> float:
        return self.now

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.address)
        sock.setblocking(False)
        self.clients.append(sock)
        return sock

    @property
    def connections(self) -> int:
        """Those that are accepted and were not closed since."""
        self._accepted = [(fd, what) for fd, what in self._accepted if _what(fd) == what]
        return len(self._accepted)

    def refuse(self, call: str) -> None:
        if (error := self.refusals.pop(call, None)) is not None:
            raise error

    # -- a ring ---------------------------------------------------------------

    def accept(self, listener: socket.socket) -> PlainAccept:
        self.refuse("accept")
        accept = PlainAccept(self, listener)
        self._accepts.append(accept)
        return accept

    def send(
        self, fd: int, buffers: Any, *, zero_copy: bool | None = None, context: object
    ) -> PlainSend:
        assert zero_copy is None
        self.refuse("send")
        send = PlainSend(self, fd, buffers, context)
        self.sending.append(send)
        return send

    def end_accept(self, accept: PlainAccept, number: int) -> None:
        if accept in self._accepts:
            self._accepts.remove(accept)
            self._posted.append(Failed(accept, kernel_error(number, "accept")))

    def fail(self, operation: PlainRequest | PlainSend, error: ZcrxError) -> None:
        """End what is in flight with *error*; nothing where it is not."""
        among: list[Any] = self.receiving if isinstance(operation, Request) else self.sending
        if operation in among:
            among.remove(operation)
            self._posted.append(Failed(operation, error))

    def wait(self, timeout: float | None) -> PlainBatch:
        if self.held is not None:
            error, self.held = self.held, None
            raise error
        batch = self._turn()
        if not batch.events and not batch.runs():
            assert timeout is not None, "it would wait for ever"
            self.now += timeout
            batch = self._turn()
        return batch

    def _turn(self) -> PlainBatch:
        for accept in list(self._accepts):
            self._accept_all(accept)
        for send in list(self.sending):
            self._send_some(send)
        pieces = [piece for request in list(self.receiving) for piece in self._receive(request)]
        events = list(self._posted)
        self._posted.clear()
        return PlainBatch(pieces, events)

    def _accept_all(self, accept: PlainAccept) -> None:
        while _readable(accept.listener):
            if self.connections >= self.descriptors:
                self.end_accept(accept, errno.EMFILE)
                return
            sock, _ = accept.listener.accept()
            fd = sock.detach()
            self._accepted.append((fd, _what(fd)))
            self._posted.append(Accepted(accept, fd))

    def _send_some(self, send: PlainSend) -> None:
        with Borrowed(send.fd) as sock:
            try:
                send.left = send.left[sock.send(send.left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                return
            except OSError as error:
                self.fail(send, kernel_error(error.errno or 0, "send"))
                return
        if not send.left:
            self.sending.remove(send)
            self._posted.append(Sent(send, send.size_bytes))

    def _receive(self, request: PlainRequest) -> list[tuple[PlainRequest, bytes]]:
        size_bytes = TURN_BYTES if request.left is None else min(TURN_BYTES, request.left)
        with Borrowed(request.fd) as sock:
            try:
                data = sock.recv(size_bytes, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            except OSError as error:
                self.fail(request, kernel_error(error.errno or 0, "receive"))
                return []
        if request.left is not None:
            request.left -= len(data)
        if not data or request.left == 0:
            self.receiving.remove(request)
            self._posted.append(End(request) if not data else Limit(request))
        return [(request, data)] if data else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sock in (self.listener, *self.clients):
            sock.close()
        self._folder.cleanup()


class Borrowed:
    """A descriptor as a socket, which does not close it."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _what(fd: int) -> str:
    """``socket:[INODE]``"""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""

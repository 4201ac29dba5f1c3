"""The sockets of the kernel in memory, as the other side of the connection has them."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pyzcrx._lease import Descriptor
from pyzcrx.errors import BadArgument


def identity(fd: int) -> int | None:
    """What all descriptors of one socket have in common; None: it is closed."""
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return None


class _Socket:
    """Has the descriptor of a real socket, which carries nothing.

    So it can be duplicated, closed and mistaken for another one as in life.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            self._descriptor = Descriptor(sock.fileno())
        self._changed = changed
        self.error = 0
        """An errno that the next request meets, once what came before was dealt with."""

    def fileno(self) -> int:
        """The descriptor's number."""
        return self._descriptor.number

    def close(self) -> None:
        """Close the descriptor; a request in flight goes on, since it has its own. Idempotent."""
        self._descriptor.close()


class Way(Protocol):
    """Bytes between the sender and the peer."""

    def arrive(self, sent: bytearray, /) -> None:
        """The peer has them: add them to *sent*."""


class ModelSocket(_Socket):
    """A connected TCP socket of the model; pass :meth:`fileno` or itself to receive and send.

    Made by :meth:`ModelKernel.socket` and :meth:`ModelListener.connect`. What its methods do
    is what the peer does.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        """Use :meth:`ModelKernel.socket`."""
        super().__init__(changed)
        self.segments: deque[bytes] = deque()
        """What arrived and was not received yet."""
        self.ended = False
        """Whether the peer's FIN arrived."""
        self.sent = bytearray()
        """What was sent to the peer."""
        self.room_bytes: int | None = None
        """How much more of that the peer takes; None: all."""
        self.acknowledges = True
        """Whether the peer acknowledges what it takes; while it does not, what was sent by zero
        copy is read where it lies, however it changes."""
        self.local = False
        """Whether the peer is on this machine, so that nothing is sent by zero copy."""
        self.zero_copy_error = 0
        """An errno that zero-copy sends meet, and no others."""
        self._unacknowledged: deque[Way] = deque()
        self.rcvbuf_bytes = 160 << 10
        """SO_RCVBUF; nothing here keeps to it."""
        self.unread_after_end = 0
        """What SIOCINQ answers: more than 0 models data behind an urgent byte."""

    def send(self, data: bytes) -> None:
        """*data* arrives as one segment, copied in pages. Raises BadArgument (no bytes)."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise BadArgument(f"data is bytes, not {type(data).__name__}")
        if data:
            self.segments.append(bytes(data))
            self._changed()

    def _take(self, into: Any) -> int:
        """A plain receive of what arrived, as much as *into* has room for. Gives how much."""
        taken = 0
        while self.segments and taken < len(into):
            segment = self.segments.popleft()
            part = segment[: len(into) - taken]
            into[taken : taken + len(part)] = part
            taken += len(part)
            if len(part) < len(segment):
                self.segments.appendleft(segment[len(part) :])
        return taken or (0 if self.ended else -errno.EAGAIN)

    def _accept(self, way: Way) -> None:
        """*way* is on its way to the peer, behind what already is."""
        self._unacknowledged.append(way)

    def acknowledge(self) -> None:
        """The peer has what is on its way, if it acknowledges at all."""
        while self.acknowledges and self._unacknowledged:
            self._unacknowledged.popleft().arrive(self.sent)

    def reset(self) -> None:
        """Our side resets the connection: what is on its way is dropped, requests meet EPIPE."""
        while self._unacknowledged:
            self._unacknowledged.popleft().arrive(bytearray())
        self.error = errno.EPIPE
        self._changed()

    def finish(self) -> None:
        """The peer's FIN arrives."""
        self.ended = True
        self._changed()


class ModelListener(_Socket):
    """A listening socket of the model; made by :meth:`ModelKernel.listen`."""

    def __init__(self, changed: Callable[[], None], connection: Callable[[], ModelSocket]) -> None:
        """Use :meth:`ModelKernel.listen`."""
        super().__init__(changed)
        self._connection = connection
        self.backlog: deque[ModelSocket] = deque()
        """Connections that were not accepted yet."""

    def connect(self) -> ModelSocket:
        """A peer connects. The Accepted event has a descriptor of its own for what this gives."""
        sock = self._connection()
        self.backlog.append(sock)
        self._changed()
        return sock

"""Requests beside receiving that a server needs: accept, and send from the area."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from pyzcrx._ffi import ffi, lib
from pyzcrx.buffer import Buffer
from pyzcrx.errors import BadArgument
from pyzcrx.events import Accepted, Event, Failed, Sent
from pyzcrx.meanings import kernel_error
from pyzcrx.ring import RingCore
from pyzcrx.uapi import CqeFlag

MAX_SEND_BUFFERS = 1024
"""UIO_MAXIOV"""

# Passing states of a connection or of the process: accepting goes on.
_TRANSIENT = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EAGAIN}


class Accept:
    """A multishot accept: an Accepted event for each connection, until cancelled.

    A connection that the ring's close finds undelivered is closed with it.
    Where descriptors run out (EMFILE, ENFILE, ENOBUFS, ENOMEM) it ends with Failed;
    accept again once some were closed.
    Kernel: ``io_uring/net.c:io_accept()`` (5.19).
    """

    __slots__ = ("_ring", "_stopping", "context", "fd", "token")

    def __init__(self, ring: RingCore, listener: socket.socket | int, context: object) -> None:
        """Use :meth:`pyzcrx.Ring.accept`."""
        self._ring = ring
        self._stopping = False
        self.fd = listener if isinstance(listener, int) else listener.fileno()
        self.context = context
        self.token = ring.new_token()
        self._arm()

    def _arm(self) -> None:
        result = lib.pz_prep_accept(self._ring.raw, self.fd, self.token)
        self._ring.submit(self, self.token, result, "accept")

    def cancel(self) -> None:
        """Stop accepting; ends with Failed(Cancelled)."""
        self._stopping = True
        self._ring.cancel(self.token)

    def drop(self, res: int) -> None:
        """A connection that nobody will hear of."""
        if res >= 0:
            os.close(res)

    def complete(self, res: int, flags: int) -> Event | None:
        over = not flags & CqeFlag.MORE
        if res < 0 and (self._stopping or -res not in _TRANSIENT):
            return self._failed(res)
        if over and self._stopping:
            self._ring.post(self._failed(-errno.ECANCELED))
        elif over:
            # The completion queue was full, or a passing error.
            self._arm()
        return Accepted(self, res) if res >= 0 else None

    def _failed(self, res: int) -> Failed:
        return Failed(self, kernel_error(res, "accept", f"fd {self.fd}"))


class Send:
    """Bytes of buffers, in order, to one socket; ends with Sent or Failed.

    Holds the buffers until then. The kernel copies them into the socket (a plain
    sendmsg), so they may be released at the event.
    Kernel: ``io_uring/net.c:io_sendmsg()`` with MSG_WAITALL (5.19).
    """

    __slots__ = ("_iov", "_msg", "_views", "buffers", "context", "fd", "size_bytes", "token")

    def __init__(
        self,
        ring: RingCore,
        sock: socket.socket | int,
        buffers: Sequence[Buffer | bytes],
        context: object,
    ) -> None:
        """Use :meth:`pyzcrx.Ring.send`."""
        if not 0 < len(buffers) <= MAX_SEND_BUFFERS:
            raise BadArgument(f"{len(buffers)} buffers are not between 1 and {MAX_SEND_BUFFERS}")
        self.fd = sock if isinstance(sock, int) else sock.fileno()
        self.buffers = buffers
        self.context = context
        self.token = ring.new_token()
        self._msg = ffi.new("struct pz_msg *")
        self._iov = ffi.new("struct pz_iov[]", len(buffers))
        # Views, so that no buffer can be released while the kernel reads it.
        self._views = [ffi.from_buffer(buffer) for buffer in buffers]
        self.size_bytes = 0
        for iov, view in zip(self._iov, self._views, strict=True):
            iov.base = int(ffi.cast("uintptr_t", view))
            iov.len = len(view)
            self.size_bytes += len(view)
        result = lib.pz_prep_send(ring.raw, self.fd, self._msg, self._iov, len(buffers), self.token)
        try:
            ring.submit(self, self.token, result, "send")
        except BaseException:
            self._end_views()
            raise

    def _end_views(self) -> None:
        for view in self._views:
            ffi.release(view)
        self._views = []

    def drop(self, res: int) -> None:
        """Nothing to undo."""

    def complete(self, res: int, flags: int) -> Event:  # noqa: ARG002
        self._end_views()
        if res == self.size_bytes:
            return Sent(self, res)
        # MSG_WAITALL: short means that the connection ended under it.
        error = kernel_error(res if res < 0 else -errno.EPIPE, "send", f"fd {self.fd}")
        return Failed(self, error)

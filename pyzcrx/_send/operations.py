"""Requests beside receiving that a server needs: accept, and send from the area."""

from __future__ import annotations

import errno
import os
import select
import socket
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from pyzcrx._common.checked import number_of
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.descriptor import hold
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._queue.buffer import Buffer
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.outcomes import Accepted, Failed, Sent
from pyzcrx.errors import BadArgument
from pyzcrx.uapi import CqeFlag

MAX_SEND_BUFFERS = 1024
"""UIO_MAXIOV"""

# Passing states of a connection or of the process: accepting goes on.
_TRANSIENT = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EAGAIN}


class Accept:
    """A multishot accept: an Accepted event for each connection, until cancelled.

    A connection that the ring's close finds undelivered is closed with it. Holds a descriptor
    of its own for the listener, so cancel it before you close that.
    Where descriptors run out (EMFILE, ENFILE, ENOBUFS, ENOMEM) it ends with Failed;
    accept again once some were closed.
    Kernel: ``io_uring/net.c:io_accept()`` (5.19).
    """

    __slots__ = ("_held", "_ring", "_stopping", "context", "fd", "token")

    def __init__(self, ring: RingCore, listener: socket.socket | int, context: object) -> None:
        """Use :meth:`pyzcrx.Ring.accept`."""
        self._ring = ring
        self._stopping = False
        self.fd = number_of(listener)
        self._held = hold(self.fd, "accept")
        self.context = context
        self.token = ring.new_token()
        self._arm()

    def _arm(self) -> None:
        result = lib.pz_prep_accept(self._ring.raw, self._held.number, self.token)
        self._ring.submit(self, self.token, result, "accept")

    def cancel(self) -> None:
        """Stop accepting; ends with Failed(Cancelled)."""
        self._ring.check_usable()
        self._stopping = True
        self._ring.cancel(self.token)

    def drop(self, res: int) -> None:
        """A connection that nobody will hear of."""
        if res >= 0:
            os.close(res)

    def closed_by_ring(self) -> None:
        """It accepts no more."""
        self._held.close()

    def complete(self, res: int, flags: int) -> Accepted[Accept] | Failed[Accept] | None:
        over = not flags & CqeFlag.MORE
        if res < 0 and (self._stopping or -res not in _TRANSIENT):
            return self._failed(res)
        if over and self._stopping:
            self._ring.post(self._failed(-errno.ECANCELED))
        elif over:
            # The completion queue was full, or a passing error.
            self._arm()
        return Accepted(self, res) if res >= 0 else None

    def _failed(self, res: int) -> Failed[Accept]:
        self._held.close()
        return Failed(self, kernel_error(res, "accept", f"fd {self.fd}"))


class Send:
    """Bytes of buffers, in order, to one socket; ends with Sent or Failed.

    Holds the buffers until then, and a descriptor of its own for the socket, which may be
    blocking or not. The kernel copies the bytes into the socket (a plain sendmsg), so the
    buffers may be released at the event.

    A sendmsg may take less than all: no more than 2 GiB at once, and on a socket that does
    not block only what there is room for. The rest goes with the next one, once a poll says
    that there is room.
    Kernel: ``io_uring/net.c:io_sendmsg()`` with MSG_WAITALL (5.19).
    """

    __slots__ = (
        "_bases",
        "_ends",
        "_held",
        "_iov",
        "_msg",
        "_polling",
        "_ring",
        "_taken",
        "_views",
        "buffers",
        "context",
        "fd",
        "size_bytes",
        "token",
    )

    def __init__(
        self,
        ring: RingCore,
        sock: socket.socket | int,
        buffers: Sequence[Buffer | bytes | bytearray | memoryview],
        context: object,
    ) -> None:
        """Use :meth:`pyzcrx.Ring.send`."""
        if not 0 < len(buffers) <= MAX_SEND_BUFFERS:
            raise BadArgument(f"{len(buffers)} buffers are not between 1 and {MAX_SEND_BUFFERS}")
        self._ring = ring
        self.fd = number_of(sock)
        self.buffers = buffers
        self.context = context
        self.token = ring.new_token()
        self._msg = ffi.new("struct pz_msg *")
        self._iov = ffi.new("struct pz_iov[]", len(buffers))
        # Views, so that no buffer can be released while the kernel reads it.
        self._views = [
            ffi.from_buffer(buffer.view() if isinstance(buffer, Buffer) else buffer)
            for buffer in buffers
        ]
        self._bases = [int(ffi.cast("uintptr_t", view)) for view in self._views]
        self._ends = list(accumulate(len(view) for view in self._views))
        """Where each buffer ends in the bytes of all."""
        self.size_bytes = self._ends[-1]
        self._taken = 0
        """Bytes that the kernel took before the request in flight."""
        self._polling = False
        try:
            self._held = hold(self.fd, "send")
            for i in range(len(buffers)):
                self._point(i, 0)
            self._submit(0)
        except BaseException:
            self._end_views()
            raise

    def _point(self, i: int, begin: int) -> None:
        """Entry *i* leads to what of its buffer lies behind the first *begin* bytes of all."""
        start = self._ends[i - 1] if i else 0
        skip = max(0, begin - start)
        self._iov[i].base = self._bases[i] + skip
        self._iov[i].len = self._ends[i] - start - skip

    def _submit(self, begin: int) -> None:
        """Send all behind the first *begin* bytes."""
        i = min(bisect_right(self._ends, begin), len(self._ends) - 1)
        self._point(i, begin)
        rest = len(self._ends) - i
        result = lib.pz_prep_send(
            self._ring.raw, self._held.number, self._msg, self._iov + i, rest, self.token
        )
        self._ring.submit(self, self.token, result, "send")

    def _poll(self) -> None:
        """Wait for room in the socket, or for its end."""
        result = lib.pz_prep_poll(self._ring.raw, self._held.number, select.POLLOUT, 0, self.token)
        self._ring.submit(self, self.token, result, "send")

    def drop(self, res: int) -> None:  # noqa: ARG002
        """The kernel reads the buffers no longer."""
        self._let_go()

    def closed_by_ring(self) -> None:
        """Nothing is sent any more."""
        self._let_go()

    def _let_go(self) -> None:
        """The buffers and the socket are the user's alone again."""
        self._end_views()
        self._held.close()

    def _end_views(self) -> None:
        for view in self._views:
            ffi.release(view)
        self._views = []

    # Told again from the start if a signal handler raises in it: so what it changes
    # comes last, and a request that was prepared is not prepared twice (csrc/receive.c).
    def complete(self, res: int, flags: int) -> Sent[Send] | Failed[Send] | None:  # noqa: ARG002
        """The completion of one sendmsg, or of the poll after one."""
        if self._polling and res >= 0:
            self._submit(self._taken)
            self._polling = False
            return None
        taken = self._taken + max(res, 0)
        if res > 0 and taken < self.size_bytes:
            self._submit(taken)
            self._taken = taken
            return None
        if res == -errno.EAGAIN:
            self._poll()
            self._polling = True
            return None
        if res == -errno.EINTR:
            self._submit(self._taken)
            return None
        self._let_go()
        if taken == self.size_bytes and res >= 0:
            return Sent(self, taken)
        return Failed(self, kernel_error(res or -errno.EPIPE, "send", f"fd {self.fd}"))

"""Accepting connections."""

from __future__ import annotations

import errno
import os
import socket

from pyzcrx._common.checked import number_of
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.descriptor import hold
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.outcomes import Accepted, Failed
from pyzcrx.uapi import CqeFlag

# Passing states of a connection or of the process: accepting goes on.
_TRANSIENT = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EAGAIN}
_MORE = int(CqeFlag.MORE)  # an enum's & is a call of Python


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
        """The number of the listener as the user gave it: for messages."""
        self._held = hold(self.fd, "accept")
        self.context = context
        """Yours."""
        self.token = ring.new_token()
        """The user_data of its SQE and CQEs."""
        self._arm()

    def _arm(self) -> None:
        result = lib.pz_prep_accept(self._ring.raw, self._held.number, self.token)
        self._ring.submit(self, self.token, result, "accept")

    def cancel(self) -> None:
        """Stop accepting; ends with Failed(Cancelled)."""
        self._ring.check_usable()
        self._stopping = True
        self._ring.cancel(self.token)

    def _drop(self, res: int) -> None:
        """A connection that nobody will hear of."""
        if res >= 0:
            os.close(res)

    def _closed_by_ring(self) -> None:
        """It accepts no more."""
        self._held.close()

    def _complete(self, res: int, flags: int) -> Accepted[Accept] | Failed[Accept] | None:
        over = not flags & _MORE
        if res >= 0 and not over:
            return Accepted(self, res)
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

"""Accepting connections: how many there is room for, and what happens to the others.

Shared by the servers. No peer may end one, so descriptors that run out (EMFILE, ENFILE) are a
passing state: connections that wait then are refused, and accepting goes on.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from pyzcrx._receive.request import Request
from pyzcrx._send.accept import Accept
from pyzcrx.errors import KernelError, ZcrxError
from pyzcrx.ring import Ring

RETRY_S = 0.1
"""Until accepting is tried again, after it stopped."""

EACH = 3
"""Descriptors of one connection: its own, and those that its request and its send hold."""

SPARE = 16
"""Descriptors that are kept for all that is opened later and is no connection."""

REFUSALS = 256
"""Connections refused in one go at most."""

_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
_LISTENER_BROKEN = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close by RST, with nothing left behind."""


def make_room(connections: int) -> int:
    """Raise the soft limit of descriptors to what *connections* need.

    Gives how many of them there is room for: fewer where the hard limit is lower.
    """
    others = len(os.listdir("/proc/self/fd")) + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < others + EACH * connections:
        soft = min(others + EACH * connections, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, (soft - others) // EACH))


def close_by_reset(fd: int) -> None:
    """Have the connection end by RST, whenever it is closed."""
    sock = socket.socket(fileno=fd)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.detach()


def shut(fd: int, how: int = socket.SHUT_RDWR) -> None:
    """End both directions of the connection, or one; what is in flight on it ends, too."""
    sock = socket.socket(fileno=fd)
    with suppress(OSError):
        sock.shutdown(how)
    sock.detach()


def end(request: Request) -> None:
    """Have *request* end, also where the ring takes no cancellation."""
    try:
        request.cancel()
    except KernelError:
        shut(request.fd)


class Acceptor:
    """A multishot accept that is armed again whatever ends it, until :meth:`stop`.

    most: connections at a time, as :func:`make_room` gave it. That comes first: the kernel
    reads the limit of descriptors when accepting is armed
    (``io_uring/net.c:io_accept_prep()``, 7.3).
    """

    def __init__(
        self,
        ring: Ring,
        listener: socket.socket,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self._ring = ring
        self._listener = listener
        self._clock = clock
        self._retry_at: float | None = None
        self._refused = False
        """Whether a connection was refused since accepting stopped the last time."""
        self._reserve: int | None = None
        self._keep_reserve()
        self._accept: Accept | None = ring.accept(listener)

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._accept is None

    @property
    def accepting(self) -> bool:
        """Whether a request of its is with the kernel."""
        return self._accept is not None and self._retry_at is None

    def wait_s(self) -> float | None:
        """How long until :meth:`resume` has something to do; None: it has not."""
        return None if self._retry_at is None else max(0.0, self._retry_at - self._clock())

    def resume(self) -> None:
        """Accept again if it is time to. Call it after each turn."""
        if self.wait_s() == 0:
            self._arm()

    def _arm(self) -> None:
        try:
            self._accept = self._ring.accept(self._listener)
            self._retry_at = None
        except KernelError:
            self._retry_at = self._clock() + RETRY_S

    def admit(self, fd: int, connections: int) -> bool:
        """Whether an accepted connection may stay beside *connections* others.

        If not, it is closed by RST.
        """
        if connections < self.most:
            return True
        self._refused = True
        close_by_reset(fd)
        os.close(fd)
        return False

    def failed(self, request: Accept, error: ZcrxError, *, freeing: bool = False) -> None:
        """*request* ended with *error*. Raises it where the listening socket is the cause.

        freeing: connections are about to be closed, so that the next turn may try again.
        """
        if request is not self._accept:
            return  # stopped
        number = error.errno if isinstance(error, KernelError) else None
        if number in _LISTENER_BROKEN:
            raise error
        if self._refused:  # which freed descriptors
            self._refused = False
            self._arm()
            return
        if freeing:
            self._retry_at = self._clock()
            return
        if number in _NO_DESCRIPTOR:
            self._refuse_waiting()
        self._retry_at = self._clock() + RETRY_S

    def stop(self) -> None:
        """Accept no more."""
        if self._accept is not None:
            if self._retry_at is None:
                self._accept.cancel()
            self._accept = self._retry_at = None

    def close(self) -> None:
        """Give the reserve up."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _refuse_waiting(self) -> None:
        """Lend the reserve to the connections that wait, one by one, to tell their peers."""
        self.close()
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        with suppress(OSError):
            for _ in range(REFUSALS):
                if not waiting.poll(0):
                    break
                sock, _ = self._listener.accept()
                with sock:
                    close_by_reset(sock.fileno())
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        with suppress(OSError):  # others were faster; another time
            self._reserve = os.eventfd(0)

"""A connection in the making."""

from __future__ import annotations

import errno
import select
import socket

from pyzcrx._common.checked import integer
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.endpoint import Endpoint, resolve
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import BadArgument, KernelError


class Connect:
    """Connects to *endpoint* while the ring turns; *sock* is the caller's to close.

    rcvbuf_bytes: SO_RCVBUF, which must be set before; None: the kernel's choice.

    Raises KernelError where that fails at once.
    """

    def __init__(self, ring: RingCore, endpoint: Endpoint, rcvbuf_bytes: int | None) -> None:
        self._ring = ring
        self._token = ring.new_token()
        self.endpoint = endpoint
        self.over = False
        """Whether it came to an end; then :meth:`error` tells which."""
        self.sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            if rcvbuf_bytes is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
            self.sock.setblocking(False)
            number = self.sock.connect_ex(endpoint.sockaddr)
            if number not in (0, errno.EINPROGRESS):
                raise self.failure(number)
            self.sock.setblocking(True)
            fd = self.sock.fileno()
            result = lib.pz_prep_poll(ring.raw, fd, select.POLLOUT, 0, self._token)
            ring.submit(self, self._token, result, "connect")
        except BaseException:
            self.sock.close()
            raise

    def error(self) -> KernelError | None:
        """Why there is no connection; None: there is."""
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return self.failure(number) if number else None

    def cancel(self) -> None:
        """Give it up, and close the socket."""
        if not self.over:
            self._ring.cancel(self._token)
        self.sock.close()

    def failure(self, number: int) -> KernelError:
        """What *number*, an errno, means for it."""
        host, port = self.endpoint.host, self.endpoint.sockaddr[1]
        return kernel_error(number, "connect", f"{host} port {port}")

    def _complete(self, res: int, flags: int) -> None:  # noqa: ARG002
        self.over = True

    def _drop(self, res: int) -> None:
        """Nothing to undo."""

    def _closed_by_ring(self) -> None:
        """Its owner closes the socket."""


def resolved(address: tuple[str, int]) -> list[Endpoint]:
    """What a host and a port stand for. Raises BadArgument."""
    try:
        host, port = address
    except (TypeError, ValueError):
        raise BadArgument(f"address must be a host and a port, not {address!r:.60}") from None
    if not isinstance(host, str):
        raise BadArgument(f"address must begin with a host, not {host!r:.60}")
    return resolve(host, integer("port", port, 1, (1 << 16) - 1))

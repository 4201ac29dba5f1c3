"""A server's listening socket, also right after the server before was killed."""

from __future__ import annotations

import errno
import os
import socket
import time

from pyzcrx._kernel import endpoint
from pyzcrx._kernel.meanings import typed
from pyzcrx.errors import KernelError

PORT_TIMEOUT_S = 30.0
"""For the socket that a dead process accepted from. The kernel winds its ring up once it
is gone (``io_uring/io_uring.c:io_ring_exit_work()``), one that checks itself in 17 s."""
QUEUE_TIMEOUT_S = 10.0
"""For the rx queue, which comes back a moment later. A living process may have it."""
_RETRY_S = 0.05
_BACKLOG = 4096


def listen(host: str | None, port: int) -> socket.socket:
    """A listening socket; without *host* at every address, IPv6 and IPv4.

    Waits for a port that no living process has. Raises BadArgument (*host*),
    KernelError (EADDRINUSE and the like).
    """
    until = time.monotonic() + PORT_TIMEOUT_S
    while True:
        try:
            return _listen(host, port)
        except KernelError as error:
            busy = error.errno == errno.EADDRINUSE
            if not busy or time.monotonic() >= until or _has_owner(port):
                raise
        time.sleep(_RETRY_S)


def _listen(host: str | None, port: int) -> socket.socket:
    if host is not None or not socket.has_dualstack_ipv6():
        return endpoint.listen(host or "0.0.0.0", port, _BACKLOG)
    try:
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
    except OSError as error:
        raise typed(error, "listen", f"* port {port}") from None


def _has_owner(port: int) -> bool:
    """Whether some process, as far as that can be seen, listens there."""
    from pyzcrx.nic import sockets  # the package's import is slow

    pids = [name for name in os.listdir("/proc") if name.isdecimal()]
    owned = sockets.inodes_of(pids)
    return any(
        sock.inode in owned for sock in sockets.read() if sock.listening and sock.local_port == port
    )

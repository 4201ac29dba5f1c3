"""The loop's methods on plain sockets, in a form in which a cancelled task loses nothing.

asyncio's own receive in a callback and hand the data to the task by a future: a task that is
cancelled in between (``asyncio.timeout()`` does it) loses what was received, or a connection that
was accepted. Here the callback only says that the socket is readable, and the task itself receives.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")


def _set(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


class SocketLoop(asyncio.SelectorEventLoop):
    """asyncio's, but for ``sock_recv()`` and its like."""

    if TYPE_CHECKING:
        _add_reader: Callable[..., asyncio.Handle]
        _remove_reader: Callable[[int], bool]
        _ensure_fd_no_transport: Callable[[int], None]

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """As asyncio's; a cancelled call loses no byte."""
        return await self._when_readable(sock, lambda: sock.recv(nbytes))

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """As asyncio's; a cancelled call loses no byte."""
        return await self._when_readable(sock, lambda: sock.recv_into(buf))

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """As asyncio's; a cancelled call loses no datagram."""
        return await self._when_readable(sock, lambda: sock.recvfrom(bufsize))

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> tuple[int, Any]:
        """As asyncio's; a cancelled call loses no datagram."""
        most = nbytes or len(buf)
        return await self._when_readable(sock, lambda: sock.recvfrom_into(buf, most))

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """As asyncio's; a cancelled call loses no connection."""
        connection, address = await self._when_readable(sock, sock.accept)
        connection.setblocking(False)
        return connection, address

    async def _when_readable(self, sock: socket.socket, receive: Callable[[], T]) -> T:
        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        while True:
            try:
                return receive()
            except (BlockingIOError, InterruptedError):
                pass
            await self._readable(sock.fileno())

    async def _readable(self, fd: int) -> None:
        self._ensure_fd_no_transport(fd)
        readable: asyncio.Future[None] = self.create_future()
        handle = self._add_reader(fd, _set, readable)
        try:
            await readable
        finally:
            if not handle.cancelled():  # else another call's
                self._remove_reader(fd)

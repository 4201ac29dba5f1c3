"""Ports that are ours for all runs: chosen once, held while receivers come and go."""

from __future__ import annotations

import socket

from pyzcrx._common.leaving import Closing
from pyzcrx._kernel import endpoint


class Ports(Closing):
    """So many free ports of an address.

    A socket that is bound and does not listen keeps each from being chosen by others,
    and lets those bind it who ask for SO_REUSEADDR, as every receiver does.
    """

    def __init__(self, host: str, count: int) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                sock = endpoint.bind(self.host if self._sockets else host, 0, reuse=False)
                self._sockets.append(sock)
                # Only after the choice: with it another's port could be chosen.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The address in digits: of a name, the one that they are of."""
        return endpoint.host_of(self._sockets[0])

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(sock.getsockname()[1] for sock in self._sockets)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

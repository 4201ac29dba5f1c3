"""Ports that are ours for all runs: chosen once, held while receivers come and go."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from pyzcrx.errors import BadArgument
from pyzcrx.leaving import leave
from pyzcrx.meanings import kernel_error


class Ports:
    """So many free ports of an address.

    A socket that is bound and does not listen keeps each from being chosen by others,
    and lets those bind it who ask for SO_REUSEADDR, as every receiver does.
    """

    def __init__(self, host: str, count: int) -> None:
        self._sockets: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            for _ in range(count):
                sock = socket.socket(family)
                self._sockets.append(sock)
                # Only after the choice: with it another's port could be chosen.
                sock.bind((host, 0))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError as error:
            self.close()
            if isinstance(error, socket.gaierror):
                raise BadArgument(f"--host {host!r} is no address: {error.strerror}") from None
            raise kernel_error(error.errno or 0, "listen", host) from None

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(sock.getsockname()[1] for sock in self._sockets)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave(error, self.close)

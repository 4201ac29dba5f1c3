"""Options of what a loop shows of a connection's socket."""

from __future__ import annotations

import socket
from typing import Any


def getsockopt(sock: Any, level: int, name: int, *size_bytes: int) -> Any:
    """As of a socket, also of what uvloop shows of one. Raises OSError."""
    try:
        return sock.getsockopt(level, name, *size_bytes)
    except (AttributeError, TypeError):
        whole = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, sock.fileno())
        try:
            return whole.getsockopt(level, name, *size_bytes)
        finally:
            whole.detach()

"""The numbers that callers give: checked in one place, before any kernel sees one.

NumPy's are as good as Python's own. A bool is no number here, nor is a str; NaN and infinity
are of no use anywhere. All raise BadArgument.
"""

from __future__ import annotations

import operator
import socket
import threading
from numbers import Real
from typing import Any

from pyzcrx.errors import BadArgument

MOST_BYTES = (1 << 63) - 1
MOST_S = threading.TIMEOUT_MAX
"""In nanoseconds it has room in 64 bits."""
MOST_US = (1 << 32) - 1
MOST_FD = (1 << 31) - 1
MOST_IFINDEX = (1 << 31) - 1


def integer(name: str, value: Any, least: int, most: int) -> int:
    """*value* as an int, from *least* to *most*."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise BadArgument(f"{name} is a whole number, not {_shown(value)}") from None
    if not least <= number <= most:
        raise BadArgument(f"{name} {_shown(number)} is not between {least} and {most}")
    return number


def optional(name: str, value: Any, least: int, most: int) -> int | None:
    """As :func:`integer`; None may be."""
    return None if value is None else integer(name, value, least, most)


def seconds(name: str, value: Any, most: float = MOST_S) -> float:
    """*value* as a number of seconds of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadArgument(f"{name} is a number of seconds, not {_shown(value)}")
    if not 0 <= value <= most:  # type: ignore[operator]
        raise BadArgument(f"{name} {_shown(value)} is not a number of seconds from 0 to {most:.0f}")
    return float(value)


def number_of(sock: socket.socket | int) -> int:
    """The file descriptor of a socket, which may be given as that number itself.

    -1: the socket was closed.
    """
    if type(sock) is int and 0 <= sock <= MOST_FD:  # as an Accepted has it
        return sock
    fileno = getattr(sock, "fileno", None)
    if fileno is None:
        return integer("descriptor", sock, 0, MOST_FD)
    number = fileno()
    if type(number) is int and 0 <= number <= MOST_FD:  # as nearly all are, once a connection
        return number
    return integer("the socket's descriptor", number, -1, MOST_FD)


def interface(value: Any) -> str | int:
    """The name or the index of an interface."""
    if isinstance(value, str):
        return value
    return integer("interface index", value, 1, MOST_IFINDEX)


def writable(memory: Any) -> memoryview:
    """Its bytes, to be written. Raises BadArgument."""
    try:
        view = memoryview(memory)
        if view.readonly:
            raise TypeError("read-only")
        return view.cast("B")
    except TypeError as error:
        raise BadArgument(f"{type(memory).__name__} is no memory to write to: {error}") from None


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 999:
        return f"of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""One of each error of the package, found by introspection."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Iterator

from pyzcrx import errors
from pyzcrx.errors import IncompleteRead, KernelError, NicError, UrgentDataLost, ZcrxError


def _classes(base: type[ZcrxError]) -> Iterator[type[ZcrxError]]:
    for each in base.__subclasses__():
        yield each
        yield from _classes(each)


def every_error() -> list[ZcrxError]:
    return [_made(each) for each in _classes(ZcrxError) if inspect.getmodule(each) is errors]


def kernel_errors() -> list[KernelError]:
    return [error for error in every_error() if isinstance(error, KernelError)]


def _made(kind: type[ZcrxError]) -> ZcrxError:
    if issubclass(kind, KernelError):
        return kind(errno.EIO, "a call")
    if issubclass(kind, NicError):
        return kind("a cause")
    if kind is IncompleteRead:
        return kind(b"part", 9)
    return kind(3) if kind is UrgentDataLost else kind("a text")

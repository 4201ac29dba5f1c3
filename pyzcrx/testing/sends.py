"""The sends that the kernel in memory serves, by copy and without.

Kernel: ``io_uring/net.c:io_sendmsg()``, ``io_sendmsg_zc()``, ``io_uring/notif.c`` (7.3).
"""

from __future__ import annotations

import errno
from typing import Any

from pyzcrx._kernel._ffi import ffi
from pyzcrx.testing.completions import Completions
from pyzcrx.testing.requests import Request
from pyzcrx.testing.sockets import ModelSocket
from pyzcrx.uapi import CqeFlag

_Parts = list[tuple[int, int]]


def _read(parts: _Parts) -> bytes:
    return b"".join(bytes(ffi.buffer(ffi.cast("char *", base), length)) for base, length in parts)


def _cut(parts: _Parts, begin: int, length: int) -> _Parts:
    """Where *length* bytes behind the first *begin* lie."""
    found: _Parts = []
    for base, size in parts:
        skip = min(begin, size)
        take = min(size - skip, length)
        if take:
            found.append((base + skip, take))
        begin, length = begin - skip, length - take
    return found


class _Copy:
    """Bytes that were copied."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def arrive(self, sent: bytearray) -> None:
        sent += self._data


class Send(Request):
    """sendmsg with MSG_WAITALL: all of *iov*, or less where the connection ends."""

    def __init__(self, token: int, sock: ModelSocket, iov: Any, n: int) -> None:
        super().__init__(token)
        self._sock = sock
        self._parts = [(int(iov[i].base), int(iov[i].len)) for i in range(n)]
        self._size_bytes = sum(length for _, length in self._parts)
        self._done = 0

    def step(self, cq: Completions) -> int | None:  # noqa: ARG002
        return self._send()

    def _send(self) -> int | None:
        sock = self._sock
        if sock.error:
            return self._done or -sock.error
        length = self._size_bytes - self._done
        if sock.room_bytes is not None:
            length = min(length, sock.room_bytes)
            sock.room_bytes -= length
        self._put(_cut(self._parts, self._done, length))
        self._done += length
        sock.acknowledge()
        return self._done if self._done == self._size_bytes else None

    def _put(self, parts: _Parts) -> None:
        self._sock._accept(_Copy(_read(parts)))


class _InPlace:
    """Bytes that are read where they lie, when they arrive."""

    def __init__(self, send: SendZeroCopy, parts: _Parts) -> None:
        self._send = send
        self._parts = parts

    def arrive(self, sent: bytearray) -> None:
        sent += _read(self._parts)
        self._send.out -= 1


class SendZeroCopy(Send):
    """sendmsg_zc: completes once it was accepted, and again once the peer has it."""

    def __init__(self, token: int, sock: ModelSocket, iov: Any, n: int) -> None:
        super().__init__(token, sock, iov, n)
        self.out = 0
        """Stretches that were not acknowledged."""
        self._accepted = False

    def _put(self, parts: _Parts) -> None:
        self._sock._accept(_InPlace(self, parts))
        self.out += 1

    def go_on(self, cq: Completions) -> bool:
        if not self._accepted:
            res = self._result()
            if res is None or not cq.post(self.token, res):
                return False
            self._accepted = True
        self._sock.acknowledge()
        if self.out:
            return False
        cq.post_last(self.token, 0, CqeFlag.NOTIF)
        return True

    def _result(self) -> int | None:
        if self.cancelled:
            return self._done or -errno.ECANCELED
        if self._sock.zero_copy_error:
            return -self._sock.zero_copy_error
        return self._done if self._done == self._size_bytes else self._send()


class RefusedZeroCopy(Request):
    """One that fails at once; a notification follows all the same."""

    def __init__(self, token: int, number: int) -> None:
        super().__init__(token)
        self._number = number

    def go_on(self, cq: Completions) -> bool:
        if not cq.post(self.token, -self._number):
            return False
        cq.post_last(self.token, 0, CqeFlag.NOTIF)
        return True

"""A connection that cannot send while it is not read: see :mod:`pyzcrx._common.stalled`."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyzcrx._common.stalled import AFTER_S
from pyzcrx._receive.reading import Reading
from pyzcrx.aio.option import getsockopt
from pyzcrx.errors import ZcrxError

_INFO_BYTES, _ACKED = 128, 120
"""Of ``struct tcp_info`` (include/uapi/linux/tcp.h): so much of it, and where bytes_acked is."""


class Stall:
    """Looks, while something *waits* to be sent, whether the peer takes any."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: Any,
        waits: Callable[[], bool],
        reading: Callable[[], Reading | None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._waits = waits
        self._reading = reading
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something may wait. Idempotent."""
        if self._timer is None and self._waits():
            self._look_again(self._acked_bytes())

    def _look_again(self, acked_bytes: int) -> None:
        self._timer = self._loop.call_later(AFTER_S, self._look, acked_bytes)

    def _look(self, before_bytes: int) -> None:
        self._timer = None
        if not self._waits():
            return
        acked_bytes = self._acked_bytes()
        reading = self._reading()
        if acked_bytes == before_bytes and reading is not None:
            with suppress(ZcrxError):  # of a socket or ring that was closed: others tell
                reading.relieve()
        self._look_again(acked_bytes)

    def _acked_bytes(self) -> int:
        try:
            info = getsockopt(self._sock, socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:  # it is closed
            return 0
        return int(struct.unpack_from("=Q", info, _ACKED)[0]) if len(info) == _INFO_BYTES else 0

    def end(self) -> None:
        """The connection is over, and is referred to no longer. Idempotent."""
        self._waits, self._reading = bool, _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None:
    """There is no connection any more."""

"""Where a connection's packets arrive: at the queue that an ifq is bound to, or elsewhere.

Kernel: ``include/net/busy_poll.h:sk_mark_napi_id()``, by each packet; SO_INCOMING_NAPI_ID.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from pyzcrx.aio.option import getsockopt
from pyzcrx.errors import KernelError
from pyzcrx.ifq import Ifq
from pyzcrx.nic.read import Reader

_SO_INCOMING_NAPI_ID = 56


def napi_id(sock: Any) -> int:
    """The NAPI instance that the last packet of a connection came by; 0: not known."""
    return int(getsockopt(sock, socket.SOL_SOCKET, _SO_INCOMING_NAPI_ID))


class Arrival:
    """Of one connection: whether the NIC places its bytes in the area."""

    def __init__(self, ifq: Ifq, sock: Any) -> None:
        self._ifq = ifq
        self._sock: Any = sock
        self._napi_id = 0
        self._queue_napi_id = 0

    def note(self) -> None:
        """Look once more: the socket is about to be closed."""
        if not self._ifq.nodev:
            with suppress(OSError):  # it is closed
                self._napi_id = napi_id(self._sock)

    @property
    def zero_copy(self) -> bool:
        """By its last packet before the socket was closed."""
        self.note()
        if self._napi_id and self._napi_id != self._queue_napi_id:
            self._queue_napi_id = queue_napi_id(self._ifq)
        return self._napi_id != 0 and self._napi_id == self._queue_napi_id


def queue_napi_id(ifq: Ifq) -> int:
    """The NAPI instance of the queue that *ifq* is bound to; 0: not known."""
    assert ifq.rx_queue is not None
    try:
        with Reader() as kernel:
            if kernel._netdev is None:
                return 0
            return kernel._netdev.queue(ifq.ifindex, ifq.rx_queue).napi_id or 0
    except KernelError:  # the interface is down, or gone
        return 0

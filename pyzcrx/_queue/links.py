"""Notifications that a NIC is gone, since the kernel tells nobody who waits.

When a NIC is taken away from a bound queue (unbind, hot-unplug, its driver unloaded),
the kernel takes the area from it and leaves the requests as they are: no completion
comes, and TCP keeps quiet as well (``io_uring/zcrx.c:io_pp_uninstall()``, 7.3). So the
ring listens to rtnetlink, and when any link goes each ifq asks whether it was its own.
"""

from __future__ import annotations

import errno
import os
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress

from pyzcrx._lease import Descriptor
from pyzcrx._ring.poll import Poll, Polling

_RTMGRP_LINK = 1
_SOL_NETLINK = 270
_LISTEN_ALL_NSID = 8
_READ_BYTES = 1 << 16


class Links:
    """An rtnetlink socket that is polled, one of a ring that has bound ifqs.

    Calls *gone*, a method that it does not keep alive, whenever any link has gone: one of its
    own network namespace and, with CAP_NET_BROADCAST, of those that a NIC was moved to from
    there. Owner thread only.
    """

    def __init__(self, ring: Polling, gone: Callable[[], None]) -> None:
        self._gone = weakref.WeakMethod(gone)
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        ) as sock:
            with suppress(PermissionError):
                sock.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
            sock.bind((0, _RTMGRP_LINK))
            self._heard_at = Descriptor(sock.detach(), adopt=True)
        Poll(ring, self._heard_at, self._heard)

    def _heard(self) -> None:
        self._drain()
        gone = self._gone()
        if gone is not None:
            gone()

    def _drain(self) -> None:
        """What the messages say is of no interest, nor how many were lost."""
        while True:
            try:
                os.read(self._heard_at.number, _READ_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._heard_at.close()

"""A connection that is relayed: the one that was accepted, and the one that goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pyzcrx._kernel._ffi import lib
from pyzcrx.forwarding.connect import Connect
from pyzcrx.forwarding.flow import Flow
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring


class Pair:
    """Two sockets; once the second is connected, a flow each way."""

    def __init__(self, accepted: socket.socket, connect: Connect) -> None:
        self.accepted = accepted
        self.connect = connect
        self.flows: tuple[Flow, ...] = ()
        """From the accepted one, and to it."""
        self.broken = False
        """Whether it ends by a reset."""

    def begin(
        self, ring: Ring, ifq: Ifq, backlog_bytes: Callable[[], int], zero_copy: bool | None
    ) -> None:
        """Forward both ways. Raises KernelError."""
        there, here = self.accepted, self.connect.sock
        self.flows = (Flow(ring, ifq, there, here, backlog_bytes, zero_copy, self),)
        self.flows += (Flow(ring, ifq, here, there, backlog_bytes, zero_copy, self),)

    @property
    def ending(self) -> bool:
        """Whether nothing more will be forwarded."""
        return self.broken or (bool(self.flows) and all(flow.finished for flow in self.flows))

    @property
    def over(self) -> bool:
        """Whether, besides, neither a request nor the NIC has anything of it."""
        return self.ending and all(flow.idle for flow in self.flows)

    def reset(self) -> None:
        """Have both sides end by a reset, which ends what is in flight."""
        if not self.broken:
            self.broken = True
            for flow in self.flows:
                flow.stop()
            for sock in (self.accepted, self.connect.sock):
                lib.pz_disconnect(sock.fileno())

    def close(self) -> None:
        self.accepted.close()
        self.connect.sock.close()

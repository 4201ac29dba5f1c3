"""What makes a stream arrive in whole pages, so that direct I/O copies nothing of it.

A NIC puts each segment's payload at the beginning of a buffer. So a segment must carry whole
pages: the MSS is a page and 12 bytes, which TCP timestamps take of each segment. And the receive
window must end at a page of the stream, or a sender that fills it cuts a segment there, and all
that follows runs off the page. The window is announced in units of 2**scale bytes, with a scale of
12 in pages. The kernel chooses the scale at the handshake, by the listener's SO_RCVBUF or by the
largest that the system allows.

Kernel: ``net/ipv4/tcp_output.c:tcp_select_initial_window()``.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from pyzcrx._kernel.memory import PAGE

TIMESTAMP_BYTES = 12
MSS = PAGE + TIMESTAMP_BYTES
"""TCP_MAXSEG of the listener."""
SCALE = 12
"""The least window scale: 2**12 is a page."""
SCALE_RCVBUF_BYTES = 256 << 20
"""SO_RCVBUF of a listener that gives at least that scale. Kernel: it is doubled, and a half or,
before 6.16, a quarter of that counts as window; the scale is log2 of it less 15."""
_SO_RCVBUFFORCE = 33
_OPTIONS, _SCALES, _ADVMSS = 5, 6, 84
"""Offsets in ``struct tcp_info`` (include/uapi/linux/tcp.h)."""
_TIMESTAMPS, _WINDOW_SCALE = 1, 4
_INFO_BYTES = 104


def set_rcvbuf(sock: socket.socket, size_bytes: int) -> None:
    """SO_RCVBUF of *size_bytes*, beyond the system's limit where that is permitted."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)


def prepare(listener: socket.socket) -> None:
    """Have what connects to *listener* send whole pages, as far as that can be had here."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MSS)
    before = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    # Without CAP_NET_ADMIN the kernel's limits decide, tcp_rmem or rmem_max; a smaller
    # SO_RCVBUF of our own would only lower the scale.
    with suppress(PermissionError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SCALE_RCVBUF_BYTES)
        return
    if before < SCALE_RCVBUF_BYTES <= _rmem_max():
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SCALE_RCVBUF_BYTES)


def _rmem_max() -> int:
    with suppress(OSError, ValueError), open("/proc/sys/net/core/rmem_max") as file:
        return int(file.read())
    return 0


@dataclass(frozen=True)
class Handshake:
    """What two peers agreed on. Kernel: ``net/ipv4/tcp.c:tcp_get_info()``."""

    window_scale: int | None
    """Of our receive window; None: the peer takes none."""
    timestamps: bool
    segment_bytes: int
    """The most payload of a segment, as we told the peer."""

    @classmethod
    def of(cls, sock: socket.socket) -> Handshake:
        """Of a connected socket. Raises OSError."""
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        options = info[_OPTIONS]
        return cls(
            info[_SCALES] >> 4 if options & _WINDOW_SCALE else None,
            bool(options & _TIMESTAMPS),
            struct.unpack_from("=I", info, _ADVMSS)[0],
        )

    def advice(self) -> str | None:
        """Why its bytes will not lie in whole pages, and the fix; None: they can."""
        if not self.timestamps:
            return (
                "the peer sends no TCP timestamps, so segments are larger than a page, and direct "
                "I/O copies them; sysctl -w net.ipv4.tcp_timestamps=1, at both ends"
            )
        if self.segment_bytes < PAGE:
            return (
                f"the interface's MTU allows segments of {self.segment_bytes} bytes, less than a "
                f"page, so direct I/O copies them; ip link set DEVICE mtu {MSS + 60} or more, at "
                "both ends"
            )
        if self.window_scale is None:
            return (
                "the peer takes no window scale, so segments are cut within pages, which direct "
                "I/O copies; sysctl -w net.ipv4.tcp_window_scaling=1, at both ends"
            )
        if self.window_scale < SCALE:
            return (
                f"the window scale is {self.window_scale}, below {SCALE}, so segments are cut "
                "within pages, which direct I/O copies; run with CAP_NET_ADMIN, or sysctl -w "
                f"net.ipv4.tcp_rmem='4096 131072 {1 << (15 + SCALE)}'"
            )
        return None

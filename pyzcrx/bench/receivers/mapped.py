"""TCP_ZEROCOPY_RECEIVE: whole pages of payload are mapped, the rest is copied.

Maps something only where the NIC puts payload into pages of its own and a segment holds
whole pages (MTU 4096 and the headers, for instance). The getsockopt() is called through
ctypes: Python's own passes no structure in.

Kernel: ``net/ipv4/tcp.c:tcp_zerocopy_receive()`` (4.18), struct tcp_zerocopy_receive.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import socket

from pyzcrx.bench.gate import Consume, Gate

TCP_ZEROCOPY_RECEIVE = 35
WINDOW_BYTES = 1 << 20
COPY_BYTES = 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


class _Request(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint64),
        ("length", ctypes.c_uint32),
        ("recv_skip_hint", ctypes.c_uint32),
        ("inq", ctypes.c_uint32),
        ("err", ctypes.c_int32),
        ("copybuf_address", ctypes.c_uint64),
        ("copybuf_len", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("msg_control", ctypes.c_uint64),
        ("msg_controllen", ctypes.c_uint64),
        ("msg_flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class _Window:
    """Address space of one connection that payload is mapped into."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        address = _libc.mmap(
            None, WINDOW_BYTES, mmap.PROT_READ, mmap.MAP_SHARED, stream.fileno(), 0
        )
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, f"mmap of a TCP socket: {os.strerror(number)}")
        self.address: int = address
        self.view = memoryview((ctypes.c_char * WINDOW_BYTES).from_address(address)).cast("B")

    def map(self) -> tuple[int, int]:
        """Bytes mapped at the window's start, and bytes that must be copied next."""
        request = _Request(address=self.address, length=WINDOW_BYTES)
        length = ctypes.c_uint32(ctypes.sizeof(request))
        fd = self.stream.fileno()
        if _libc.getsockopt(
            fd,
            socket.IPPROTO_TCP,
            TCP_ZEROCOPY_RECEIVE,
            ctypes.byref(request),
            ctypes.byref(length),
        ):
            number = ctypes.get_errno()
            if number == errno.EIO:  # mapped nothing: an end, or too little to map
                return 0, COPY_BYTES
            raise OSError(number, f"TCP_ZEROCOPY_RECEIVE: {os.strerror(number)}")
        return request.length, request.recv_skip_hint


def mapped(gate: Gate) -> None:
    """Map what can be, ``recv_into`` for the rest."""
    consume: Consume | None = gate.consume
    memory = bytearray(COPY_BYTES)
    copy = memoryview(memory)
    gate.meter.payload(ctypes.addressof(ctypes.c_char.from_buffer(memory)), COPY_BYTES)
    windows = {stream.fileno(): _Window(stream) for stream in gate.open()}
    poll = select.epoll()
    for fd in windows:
        poll.register(fd, select.EPOLLIN)
    mapped_bytes = copied_bytes = chunks = turns = 0
    while windows:
        turns += 1
        for fd, _ in poll.poll():
            window = windows[fd]
            n, rest = window.map()
            if n:
                mapped_bytes += n
                chunks += 1
                if consume:
                    consume(window.view[:n], window.stream)
            if rest or not n:
                n = window.stream.recv_into(copy, min(rest, COPY_BYTES) or COPY_BYTES)
                if not n:
                    poll.unregister(fd)
                    del windows[fd]
                    continue
                copied_bytes += n
                chunks += 1
                if consume:
                    consume(copy[:n], window.stream)
    gate.meter.stop(
        size_bytes=mapped_bytes + copied_bytes,
        chunks=chunks,
        turns=turns,
        bytes_copied=copied_bytes,
    )

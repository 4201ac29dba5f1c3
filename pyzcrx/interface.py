"""What a network interface says of itself that sizes depend on. Needs no privilege.

Kernel: ``net/ethtool/ioctl.c:ethtool_get_ringparam()``, ``net/core/dev_ioctl.c``.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress

from pyzcrx._ffi import ffi

_SIOCETHTOOL = 0x8946
_SIOCGIFMTU = 0x8921
_GRINGPARAM = 0x10
_RX_PENDING = 5
_IFREQ_BYTES = 40


def name_of(interface: str | int) -> str | None:
    """The name of an interface, or None where there is none of that index."""
    if isinstance(interface, str):
        return interface
    with suppress(OSError):
        return socket.if_indextoname(interface)
    return None


def _ask(request: int, name: str, argument: bytes) -> bytes | None:
    ifreq = bytearray(name.encode()[:15].ljust(16, b"\0") + argument)
    ifreq = ifreq.ljust(_IFREQ_BYTES, b"\0")
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, ifreq)
        return bytes(ifreq[16:])
    return None


def rx_ring_entries(interface: str | int) -> int | None:
    """How many packets' buffers a queue of it keeps posted; None where it does not say."""
    name = name_of(interface)
    ring = ffi.new("uint32_t[9]", [_GRINGPARAM])  # struct ethtool_ringparam
    address = struct.pack("=Q", int(ffi.cast("uintptr_t", ring)))
    if name is None or _ask(_SIOCETHTOOL, name, address) is None:
        return None
    return int(ring[_RX_PENDING]) or None


def mtu(interface: str | int) -> int | None:
    """Its MTU in bytes."""
    name = name_of(interface)
    answer = None if name is None else _ask(_SIOCGIFMTU, name, b"")
    return None if answer is None else int(struct.unpack_from("=i", answer)[0])

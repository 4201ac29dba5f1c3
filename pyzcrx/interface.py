"""What a network interface says of itself that sizes depend on. Needs no privilege.

Kernel: ``net/ethtool/ioctl.c:ethtool_get_ringparam()``, ``ethtool_get_features()``;
``net/core/dev_ioctl.c``.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress
from typing import Any

from pyzcrx._ffi import ffi
from pyzcrx.checked import interface as checked_interface

_SIOCETHTOOL = 0x8946
_SIOCGIFMTU = 0x8921
_GRINGPARAM = 0x10
_GSSET_INFO = 0x37
_GSTRINGS = 0x1B
_GFEATURES = 0x3A
_SS_FEATURES = 4
_NAME_BYTES = 32
_MERGING = ("rx-gro-hw", "rx-lro")
_RX_PENDING = 5
_IFREQ_BYTES = 40


def name_of(interface: str | int) -> str | None:
    """The name of an interface, or None where there is none of that index."""
    interface = checked_interface(interface)
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


def _ethtool(interface: str | int, command: Any) -> bool:
    """Have *command*, an array or structure of ethtool's, answered in place."""
    name = name_of(interface)
    address = struct.pack("=Q", int(ffi.cast("uintptr_t", command)))
    return name is not None and _ask(_SIOCETHTOOL, name, address) is not None


def rx_ring_entries(interface: str | int) -> int | None:
    """How many packets' buffers a queue of it keeps posted; None where it does not say."""
    ring = ffi.new("uint32_t[9]", [_GRINGPARAM])  # struct ethtool_ringparam
    if not _ethtool(interface, ring):
        return None
    return int(ring[_RX_PENDING]) or None


def features(interface: str | int) -> frozenset[str]:
    """The names of its features that are on, as ``ethtool -k`` of the kernel's own names."""
    # struct ethtool_sset_info: cmd, reserved, mask (64 bits, misaligned for us), a length
    count = ffi.new("uint32_t[5]", [_GSSET_INFO, 0, 1 << _SS_FEATURES])
    if not _ethtool(interface, count) or not count[2]:
        return frozenset()
    n = int(count[4])
    # struct ethtool_gstrings: cmd, set, length, names
    strings = ffi.new("uint32_t[]", [_GSTRINGS, _SS_FEATURES, n] + [0] * (n * _NAME_BYTES // 4))
    blocks = -(-n // 32)
    # struct ethtool_gfeatures: cmd, blocks; each has available, requested, active, fixed
    bits = ffi.new("uint32_t[]", [_GFEATURES, blocks] + [0] * (4 * blocks))
    if not _ethtool(interface, strings) or not _ethtool(interface, bits):
        return frozenset()
    names = bytes(ffi.buffer(strings))[12:]
    return frozenset(
        names[i * _NAME_BYTES : (i + 1) * _NAME_BYTES].split(b"\0")[0].decode()
        for i in range(n)
        if bits[2 + 4 * (i // 32) + 2] >> i % 32 & 1
    )


def merges_frames(interface: str | int) -> bool:
    """Whether the card puts several frames of a flow into one buffer."""
    return not features(interface).isdisjoint(_MERGING)


def mtu(interface: str | int) -> int | None:
    """Its MTU in bytes."""
    name = name_of(interface)
    answer = None if name is None else _ask(_SIOCGIFMTU, name, b"")
    return None if answer is None else int(struct.unpack_from("=i", answer)[0])

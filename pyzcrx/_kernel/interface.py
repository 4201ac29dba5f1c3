"""Which interface a name or an index means, and what of it sizes depend on. No privilege.

An interface has an index, a primary name of at most 15 bytes, which ``ifreq`` and sysfs take,
and any number of alternative names of up to 127 bytes, which they do not. :func:`find` is the
one place that resolves them; everything else works with its answer.

Kernel: ``net/core/rtnetlink.c:rtnl_getlink()`` (alternative names: 5.5),
``net/ethtool/ioctl.c:ethtool_get_ringparam()``, ``ethtool_get_features()``;
``net/core/dev_ioctl.c``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyzcrx._common.checked import interface as checked_interface
from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.meanings import kernel_error

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
_IFREQ = struct.Struct("=16s24s")

_NAME_MOST = 15
_ALTERNATIVE_MOST = 127
_RTM_GETLINK = 18
_REQUEST = 1
_ERROR = 2
_ALT_IFNAME = 53  # IFLA_ALT_IFNAME
_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_RTATTR = struct.Struct("=HH")
_ANSWER_BYTES = 1 << 16
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this network namespace. Its text is the primary name."""

    index: int
    name: str

    def __str__(self) -> str:
        return self.name


def find(interface: str | int) -> Interface:
    """The interface of that index, name or alternative name.

    Raises NoSuchInterface; BadArgument for what can be neither a name nor an index.
    """
    interface = checked_interface(interface)
    index = _index_of(interface) if isinstance(interface, str) else interface
    try:
        return Interface(index, socket.if_indextoname(index))
    except OSError:
        raise kernel_error(errno.ENODEV, "find interface", str(interface)) from None


def _index_of(name: str) -> int:
    number = errno.ENODEV
    try:
        encoded = os.fsencode(name)
        if len(encoded) <= _NAME_MOST:
            return socket.if_nametoindex(name)
        # Beyond this the kernel complains of the length, and a NUL ends what it looks for.
        if len(encoded) <= _ALTERNATIVE_MOST and b"\0" not in encoded:
            return _ask_rtnetlink(encoded)
    except OSError as error:
        number = error.errno or number  # if_nametoindex() gives none
    except ValueError:
        pass  # a NUL, or not to be encoded
    raise kernel_error(number, "find interface", ascii(name)[1:-1])


def _ask_rtnetlink(name: bytes) -> int:
    """The index of an interface by an alternative name, also a long one. Raises OSError."""
    attribute = _RTATTR.pack(_RTATTR.size + len(name) + 1, _ALT_IFNAME) + name + b"\0"
    message = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute
    header = _NLMSGHDR.pack(_NLMSGHDR.size + len(message), _RTM_GETLINK, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.send(header + message)
        answer = sock.recv(_ANSWER_BYTES)
    if _NLMSGHDR.unpack_from(answer)[1] == _ERROR:
        number = -struct.unpack_from("=i", answer, _NLMSGHDR.size)[0]
        raise OSError(number, "the kernel refuses")
    return int(_IFINFOMSG.unpack_from(answer, _NLMSGHDR.size)[2])


def _ask(request: int, name: str, argument: bytes) -> bytes | None:
    ifreq = bytearray(_IFREQ.pack(os.fsencode(name), argument))
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, ifreq)
        return bytes(ifreq[16:])
    return None


def _ethtool(interface: str | int, command: Any) -> bool:
    """Have *command*, an array or structure of ethtool's, answered in place."""
    address = struct.pack("=Q", int(ffi.cast("uintptr_t", command)))
    return _ask(_SIOCETHTOOL, find(interface).name, address) is not None


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
    """Whether the NIC puts several frames of a flow into one buffer."""
    return not features(interface).isdisjoint(_MERGING)


def mtu(interface: str | int) -> int | None:
    """Its MTU in bytes."""
    answer = _ask(_SIOCGIFMTU, find(interface).name, b"")
    return None if answer is None else int(struct.unpack_from("=i", answer)[0])

"""What a NIC makes of a frame: its parser, its checksums, its segmentation."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ETHERNET = 14
IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FRAGMENT = 0x3FFF  # more fragments, or an offset
FIN_PSH, CWR = 0x09, 0x80


class Kind(enum.IntEnum):
    """Packet types, numbered as we like: GVE_ADMINQ_GET_PTYPE_MAP tells the driver."""

    UNKNOWN = 0
    TCP4 = 1
    UDP4 = 2
    TCP6 = 3
    UDP6 = 4
    ICMP4 = 5
    ICMP6 = 6
    IP4 = 7
    IP6 = 8


L3 = {Kind.UNKNOWN: 0} | dict.fromkeys((Kind.TCP4, Kind.UDP4, Kind.ICMP4, Kind.IP4), 2)
"""enum gve_l3_type; what is not listed is IPv6, 3."""
L4 = {Kind.TCP4: 2, Kind.TCP6: 2, Kind.UDP4: 3, Kind.UDP6: 3, Kind.ICMP4: 4, Kind.ICMP6: 4}
"""enum gve_l4_type; what is not listed is other, 1."""
PTYPES = [(L3.get(kind, 3), L4.get(kind, 1) if kind else 0) for kind in Kind]
PORTED = (Kind.TCP4, Kind.UDP4, Kind.TCP6, Kind.UDP6)
KINDS4 = {TCP: Kind.TCP4, UDP: Kind.UDP4, ICMP: Kind.ICMP4}
KINDS6 = {TCP: Kind.TCP6, UDP: Kind.UDP6, ICMPV6: Kind.ICMP6}


@dataclass(slots=True)
class Parsed:
    """Where a frame's parts are."""

    kind: Kind = Kind.UNKNOWN
    l4: int = 0
    """Where its transport header begins."""
    headers: int = 0
    """How long its headers are; 0 if it cannot be split."""
    flow: tuple[bytes, bytes, int, int] = (b"", b"", 0, 0)
    """Addresses and ports, the source first."""


def parse(frame: bytes | bytearray) -> Parsed:
    """No frame is too short or too odd for it."""
    parsed = Parsed()
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == IPV4 and len(frame) >= ETHERNET + 20:
        protocol, source, target = frame[23], bytes(frame[26:30]), bytes(frame[30:34])
        parsed.l4 = ETHERNET + (frame[14] & 15) * 4
        fragment = int.from_bytes(frame[20:22], "big") & FRAGMENT
        parsed.kind = Kind.IP4 if fragment else KINDS4.get(protocol, Kind.IP4)
    elif ethertype == IPV6 and len(frame) >= ETHERNET + 40:
        protocol, source, target = frame[20], bytes(frame[22:38]), bytes(frame[38:54])
        parsed.l4 = ETHERNET + 40
        parsed.kind = KINDS6.get(protocol, Kind.IP6)
    else:
        return parsed
    ports = (0, 0)
    if parsed.kind in PORTED:
        size = 20 if protocol == TCP else 8
        if len(frame) < parsed.l4 + size:
            parsed.kind = Kind.IP4 if ethertype == IPV4 else Kind.IP6
        else:
            ports = struct.unpack_from(">HH", frame, parsed.l4)
            if protocol == TCP:
                size = (frame[parsed.l4 + 12] >> 4) * 4
            parsed.headers = parsed.l4 + size
    parsed.flow = (source, target, *ports)
    return parsed


def folded(data: bytes | bytearray | memoryview) -> int:
    """The ones' complement sum of 16-bit words: the remainder by 65535 is just that."""
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    return value % 0xFFFF


def _pseudo_header(parsed: Parsed, length: int) -> int:
    protocol = TCP if parsed.kind in (Kind.TCP4, Kind.TCP6) else UDP
    return folded(parsed.flow[0] + parsed.flow[1]) + protocol + (length >> 16) + (length & 0xFFFF)


def _checksum_at(parsed: Parsed) -> int:
    return parsed.l4 + (16 if parsed.kind in (Kind.TCP4, Kind.TCP6) else 6)


def set_checksum(frame: bytearray, parsed: Parsed) -> None:
    """Of the transport header: what checksum offload does for the driver."""
    if parsed.kind not in PORTED:
        return
    where = _checksum_at(parsed)
    frame[where : where + 2] = b"\0\0"
    body = memoryview(frame)[parsed.l4 :]
    value = 0xFFFF - (folded(body) + _pseudo_header(parsed, len(body))) % 0xFFFF
    struct.pack_into(">H", frame, where, value)


def intact(frame: bytes | bytearray, parsed: Parsed) -> bool:
    """Whether its transport checksum is right; a frame that has none is."""
    if parsed.kind not in PORTED:
        return True
    where = _checksum_at(parsed)
    if parsed.kind in (Kind.UDP4, Kind.UDP6) and frame[where : where + 2] == b"\0\0":
        return True
    body = memoryview(frame)[parsed.l4 :]
    return (folded(body) + _pseudo_header(parsed, len(body))) % 0xFFFF == 0


def set_lengths(frame: bytearray, kind: Kind) -> None:
    """Of the IP header, with its checksum: as a frame of this size has them."""
    if kind == Kind.TCP4:
        end = ETHERNET + (frame[14] & 15) * 4
        struct.pack_into(">H", frame, 16, min(len(frame) - ETHERNET, 0xFFFF))
        frame[24:26] = b"\0\0"
        struct.pack_into(">H", frame, 24, 0xFFFF - folded(frame[ETHERNET:end]))
    else:
        struct.pack_into(">H", frame, 18, min(len(frame) - ETHERNET - 40, 0xFFFF))


def segments(frame: bytes | bytearray, parsed: Parsed, mss: int) -> Iterator[bytearray]:
    """The frames that segmentation (TSO) makes of a large one, in order."""
    headers, total = parsed.headers, len(frame) - parsed.headers
    (sequence,) = struct.unpack_from(">I", frame, parsed.l4 + 4)
    (ident,) = struct.unpack_from(">H", frame, 18)
    flags = parsed.l4 + 13
    for number, position in enumerate(range(0, total, mss)):
        piece = bytearray(frame[:headers])
        piece += frame[headers + position : headers + min(position + mss, total)]
        if parsed.kind == Kind.TCP4:
            struct.pack_into(">H", piece, 18, (ident + number) & 0xFFFF)
        set_lengths(piece, parsed.kind)
        struct.pack_into(">I", piece, parsed.l4 + 4, (sequence + position) & 0xFFFFFFFF)
        if position + mss < total:
            piece[flags] &= ~FIN_PSH & 0xFF
        if number:
            piece[flags] &= ~CWR & 0xFF
        set_checksum(piece, parsed)
        yield piece

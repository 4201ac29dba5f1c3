"""Frames to try a NIC with."""

from __future__ import annotations

import socket
import struct

from vm.gve.frame import ETHERNET, parse, set_checksum, set_lengths

V4 = ("192.0.2.1", "192.0.2.2")
V6 = ("2001:db8::1", "2001:db8::2")
ARP = b"\xff" * 6 + b"\x02" * 6 + b"\x08\x06" + bytes(28)


def tcp(payload: bytes, *, v6: bool = False, ports: tuple[int, int] = (1000, 2000)) -> bytes:
    """A segment with the sequence number 5, its flags ACK, PSH and FIN."""
    transport = struct.pack(">HHIIBBHHH", *ports, 5, 0, 5 << 4, 0x19, 1000, 0, 0)
    if v6:
        source, target = (socket.inet_pton(socket.AF_INET6, each) for each in V6)
        ip = struct.pack(">IHBB", 6 << 28, len(transport) + len(payload), 6, 64) + source + target
    else:
        source, target = (socket.inet_aton(each) for each in V4)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 0, 9, 0, 64, 6, 0) + source + target
    ethertype = b"\x86\xdd" if v6 else b"\x08\x00"
    frame = bytearray(b"\x02" * 12 + ethertype + ip + transport + payload)
    parsed = parse(frame)
    set_lengths(frame, parsed.kind)
    set_checksum(frame, parsed)
    return bytes(frame)


def naive_sum(data: bytes) -> int:
    """The ones' complement sum as RFC 1071 has it."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def right(frame: bytes) -> bool:
    """Whether the checksums of IP and TCP are right, by the naive sum."""
    if frame[12:14] == b"\x08\x00":
        length = int.from_bytes(frame[16:18], "big") + ETHERNET
        if naive_sum(frame[14:34]) != 0xFFFF or length != len(frame):
            return False
        addresses, body = frame[26:34], frame[34:]
    else:
        if int.from_bytes(frame[18:20], "big") + 54 != len(frame):
            return False
        addresses, body = frame[22:54], frame[54:]
    return naive_sum(addresses + struct.pack(">HHI", 0, 6, len(body)) + body) == 0xFFFF

"""Ring parameters by ethtool netlink: Debian 13's ethtool cannot set hds-thresh."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NETLINK_GENERIC = 16  # Python has no name for it
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLMSG_ERROR = 2
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 1, 2
ETHTOOL_MSG_RINGS_GET, ETHTOOL_MSG_RINGS_SET = 15, 16
HEADER, HEADER_DEV_NAME = 1, 2
RX, TCP_DATA_SPLIT, HDS_THRESH, HDS_THRESH_MAX = 6, 11, 17, 18
AUTO, OFF, ON = 0, 1, 2  # enum ethtool_tcp_data_split


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & NLA_TYPE_MASK, data[4:length]
        data = data[length + 3 & ~3 :]


class Rings:
    """Those of one interface, in this namespace. Refusals are OSErrors with their errno."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        name = attribute(HEADER_DEV_NAME, interface.encode() + b"\0")
        self._header = attribute(HEADER | NLA_F_NESTED, name)
        wanted = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0")
        reply = self._ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, wanted)
        (self._family,) = struct.unpack("=H", reply[CTRL_ATTR_FAMILY_ID])

    def close(self) -> None:
        self._socket.close()

    def get(self) -> dict[int, int]:
        """Every attribute that has a value."""
        reply = self._ask(self._family, ETHTOOL_MSG_RINGS_GET, self._header)
        return {
            kind: int.from_bytes(data, "little") for kind, data in reply.items() if kind != HEADER
        }

    def set(self, kind: int, value: int) -> None:
        size = 1 if kind == TCP_DATA_SPLIT else 4
        body = self._header + attribute(kind, value.to_bytes(size, "little"))
        self._ask(self._family, ETHTOOL_MSG_RINGS_SET, body)

    def _ask(self, family: int, command: int, body: bytes) -> dict[int, bytes]:
        header = struct.pack("=IHHII", 20 + len(body), family, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        self._socket.send(header + struct.pack("=BBH", command, 1, 0) + body)
        found: dict[int, bytes] = {}
        while True:
            data = self._socket.recv(1 << 16)
            length, kind = struct.unpack_from("=IH", data)
            if kind == NLMSG_ERROR:
                (error,) = struct.unpack_from("=i", data, 16)
                if error:
                    raise OSError(-error, os.strerror(-error))
                return found
            found.update(attributes(data[20:length]))

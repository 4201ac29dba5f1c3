"""The TCP sockets of this network namespace: whom a steering rule would catch.

Kernel: ``net/ipv4/tcp_ipv4.c:tcp4_seq_show()``, ``/proc/net/tcp`` and ``tcp6``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from pyzcrx._kernel.endpoint import Address
from pyzcrx.nic.flow import Flow

PROC = Path("/proc/thread-self/net")
ESTABLISHED, SYN_SENT, CLOSE_WAIT, LISTEN = 1, 2, 8, 10
_ANY4, _ANY6 = IPv4Address(0), IPv6Address(0)


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A socket that receives, or may come to. Port 0, an address of zeros: any."""

    local: Address
    local_port: int
    peer: Address
    peer_port: int
    listening: bool
    inode: int

    def __str__(self) -> str:
        if self.listening:
            return f"the socket listening on {self.local} port {self.local_port}"
        return (
            f"the connection of {self.local} port {self.local_port} "
            f"with {self.peer} port {self.peer_port}"
        )

    def caught_by(self, flow: Flow) -> bool:
        """Whether packets for this socket would match."""
        if self.local.is_loopback:
            return False  # nothing of the kind comes in by a NIC
        if flow.matches(self.local, self.local_port, self.peer, self.peer_port):
            return True
        # A socket on every IPv6 address hears IPv4 as well, unless told otherwise.
        return (
            self.local == _ANY6
            and flow.version == 4
            and flow.matches(_ANY4, self.local_port, _ANY4, self.peer_port)
        )


def read() -> tuple[TcpSocket, ...]:
    """All sockets of all processes, but for those that only wind down."""
    found: list[TcpSocket] = []
    for name in ("tcp", "tcp6"):
        try:
            text = (PROC / name).read_text()
        except OSError:
            continue
        found += parse(text)
    return tuple(found)


def parse(text: str) -> list[TcpSocket]:
    """The lines of ``/proc/net/tcp`` or ``tcp6``."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        state, inode = int(words[3], 16), int(words[9])
        if inode and state in (ESTABLISHED, SYN_SENT, CLOSE_WAIT, LISTEN):
            local, peer = _endpoint(words[1]), _endpoint(words[2])
            found.append(TcpSocket(*local, *peer, state == LISTEN, inode))
    return found


def _endpoint(text: str) -> tuple[Address, int]:
    words, port = text.split(":")
    # 32-bit words in the machine's order.
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = ip_address(raw)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, int(port, 16)


def inodes_of(pids: Iterable[int | str] = ("self",)) -> frozenset[int]:
    """The sockets that those processes have open, as far as that can be seen."""
    found = set()
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return frozenset(found)


def strangers(
    flows: Iterable[Flow], sockets: Iterable[TcpSocket], own: frozenset[int]
) -> tuple[TcpSocket, ...]:
    """Sockets of others that rules for *flows* would take data from."""
    flows = tuple(flows)
    return tuple(
        sock
        for sock in sockets
        if sock.inode not in own and any(sock.caught_by(flow) for flow in flows)
    )

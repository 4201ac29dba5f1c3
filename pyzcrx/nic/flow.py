"""A TCP flow, or many: protocol, addresses and ports, each or none of them given.

As text: ``tcp4 dst 192.0.2.1:9999``, ``tcp6 dst [2001:db8::1]:9999 src [2001:db8::]/32``;
``*`` stands for any address. An IPv6 address may have its scope, ``[fe80::1%eth0]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from pyzcrx._common.checked import integer
from pyzcrx._kernel.endpoint import Address, address_of
from pyzcrx.errors import BadArgument

Protocol = Literal["tcp4", "tcp6"]
Network = IPv4Network | IPv6Network

_SIDE = re.compile(
    r"(?P<address>\*|[0-9.]+|\[[^\]/]+\])(?:/(?P<length>[0-9]{1,3}))?(?::(?P<port>[0-9]{1,5}|\*))?"
)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a steering rule matches. None, or port 0: any.

    protocol: ``tcp4`` or ``tcp6``. dst, dst_port: this machine's side. src, src_port: the peer's.
    Raises BadArgument for what cannot be: a port beyond 65535, an address of the other protocol.
    """

    protocol: Protocol = "tcp4"
    dst: Network | None = None
    dst_port: int = 0
    src: Network | None = None
    src_port: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in ("tcp4", "tcp6"):
            raise BadArgument(f"a flow is of tcp4 or tcp6, not of {self.protocol!r}")
        for side in ("dst_port", "src_port"):
            object.__setattr__(self, side, integer("port", getattr(self, side), 0, 65535))
        for network in (self.dst, self.src):
            if network is not None and network.version != self.version:
                raise BadArgument(f"{network} is no address of {self.protocol}")

    @property
    def version(self) -> int:
        """4 or 6, of the Internet protocol."""
        return 4 if self.protocol == "tcp4" else 6

    @classmethod
    def parse(cls, text: str) -> Flow:
        """A flow from its text. Raises BadArgument, saying how to write one."""
        if not isinstance(text, str):
            raise BadArgument(f"a flow is a text, not {type(text).__name__}")
        words = text.split()
        sides: dict[str, tuple[Network | None, int]] = {}
        if words and words[0] in ("tcp4", "tcp6") and len(words) in (3, 5):
            for side, value in zip(words[1::2], words[2::2], strict=True):
                parsed = _parse_side(value)
                if side in ("dst", "src") and side not in sides and parsed is not None:
                    sides[side] = parsed
        if len(sides) != (len(words) - 1) // 2 or not sides:
            raise BadArgument(
                f"{text!r} is no flow; write: tcp4 dst 192.0.2.1:9999 [src 198.51.100.0/24:*], "
                "or tcp6 dst [2001:db8::1]:9999"
            )
        dst, src = sides.get("dst", (None, 0)), sides.get("src", (None, 0))
        return cls("tcp4" if words[0] == "tcp4" else "tcp6", *dst, *src)

    def __str__(self) -> str:
        text: str = self.protocol
        for side, network, port in (
            ("dst", self.dst, self.dst_port),
            ("src", self.src, self.src_port),
        ):
            if network is not None or port:
                text += f" {side} {_side_text(network)}:{port or '*'}"
        return text if text != self.protocol else f"{text} dst *:*"

    def matches(self, local: Address, local_port: int, peer: Address, peer_port: int) -> bool:
        """Whether packets from *peer* to *local* match.

        local_port, peer_port: 0: any port; an address of zeros: any address.
        """
        return all(
            (
                local.version == self.version,
                _includes(self.dst, local),
                not (self.dst_port and local_port) or self.dst_port == local_port,
                _includes(self.src, peer),
                not (self.src_port and peer_port) or self.src_port == peer_port,
            )
        )

    def overlaps(self, other: Flow) -> bool:
        """Whether some packet would match both."""
        return self.protocol == other.protocol and all(
            (
                _meet(self.dst, other.dst),
                _meet(self.src, other.src),
                not (self.dst_port and other.dst_port) or self.dst_port == other.dst_port,
                not (self.src_port and other.src_port) or self.src_port == other.src_port,
            )
        )

    def ethtool(self) -> str:
        """As the arguments of ``ethtool -N``."""
        words = [f"flow-type {self.protocol}"]
        for side, network, port in (
            ("src", self.src, self.src_port),
            ("dst", self.dst, self.dst_port),
        ):
            if network is not None:
                words.append(f"{side}-ip {network.network_address}")
                if network.num_addresses > 1:
                    # ethtool's masks have ones where the packet does not matter.
                    words.append(f"m {network.hostmask}")
            if port:
                words.append(f"{side}-port {port}")
        return " ".join(words)


def _parse_side(text: str) -> tuple[Network | None, int] | None:
    found = _SIDE.fullmatch(text)
    if found is None:
        return None
    address, length, port = found["address"], found["length"], found["port"]
    number = int(port) if port and port != "*" else 0
    if address == "*":
        return None if length else (None, number)
    bare, _ = address_of(address)  # a rule is one interface's, and so needs no scope
    if address[0] == "[" and bare.version == 4:
        raise BadArgument(f"packets of {address} are of IPv4; write tcp4 and {bare}")
    try:
        return ip_network(f"{bare}/{length}" if length else bare), number
    except ValueError as error:
        raise BadArgument(f"{text!r} is no address: {error}") from None


def _side_text(network: Network | None) -> str:
    if network is None:
        return "*"
    address = str(network.network_address)
    text = f"[{address}]" if network.version == 6 else address
    return text if network.num_addresses == 1 else f"{text}/{network.prefixlen}"


def _includes(network: Network | None, address: Address) -> bool:
    return network is None or address.is_unspecified or address in network


def _meet(one: Network | None, other: Network | None) -> bool:
    return one is None or other is None or one.overlaps(other)

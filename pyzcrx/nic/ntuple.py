"""Ntuple rules, by the SIOCETHTOOL ioctl: netlink has none.

Kernel: ``net/ethtool/ioctl.c:ethtool_get_rxnfc()``, ``ethtool_set_rxnfc()``;
``struct ethtool_rxnfc`` in ``include/uapi/linux/ethtool.h``.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Network, IPv6Network, ip_network

from pyzcrx._kernel.interface import find
from pyzcrx._kernel.meanings import kernel_error, typed
from pyzcrx.errors import KernelError, NotSupported
from pyzcrx.nic.flow import Flow, Network
from pyzcrx.nic.state import Rule

SIOCETHTOOL = 0x8946
GDRVINFO = 0x03
GRXCLSRLCNT, GRXCLSRULE, GRXCLSRLALL = 0x2E, 0x2F, 0x30
SRXCLSRLDEL, SRXCLSRLINS = 0x31, 0x32

TCP_V4_FLOW, TCP_V6_FLOW = 0x01, 0x05
FLOW_RSS = 0x20000000
RX_CLS_FLOW_DISC = (1 << 64) - 1
RX_CLS_LOC_SPECIAL = 1 << 31
RX_CLS_LOC_ANY = (1 << 32) - 1

# struct ethtool_rx_flow_spec: type, header values, their extension, masks, theirs,
# what becomes of the packet, location.
_SPEC = struct.Struct("=I52s20s52s20s4xQI4x")
# struct ethtool_rxnfc: command, flow type, data, spec, count of rules or RSS context;
# the locations of a list follow.
_RXNFC = struct.Struct(f"=IIQ{_SPEC.size}sI4x")
_LOCATIONS_AT = _RXNFC.size - 4
# struct ethtool_tcpip4_spec and _tcpip6_spec: source, destination, their ports, class.
_TCP4 = struct.Struct("!4s4sHHB")
_TCP6 = struct.Struct("!16s16sHHB")

# struct ethtool_drvinfo: driver, version, firmware, bus and more.
_DRVINFO = struct.Struct("=I32s32s32s32s32s12s5I")


def pack_spec(flow: Flow, *, queue: int = 0, location: int = 0, rss: bool = False) -> bytes:
    """The kernel's rule for *flow* to *queue*, or with *rss* to a context's queues."""
    layout, kind = (_TCP4, TCP_V4_FLOW) if flow.version == 4 else (_TCP6, TCP_V6_FLOW)
    values = layout.pack(
        _value(flow.src, layout), _value(flow.dst, layout), flow.src_port, flow.dst_port, 0
    )
    masks = layout.pack(
        _mask(flow.src, layout),
        _mask(flow.dst, layout),
        0xFFFF if flow.src_port else 0,
        0xFFFF if flow.dst_port else 0,
        0,
    )
    return _SPEC.pack(kind | (FLOW_RSS if rss else 0), values, b"", masks, b"", queue, location)


def _address_bytes(layout: struct.Struct) -> int:
    return 4 if layout is _TCP4 else 16


def _value(network: Network | None, layout: struct.Struct) -> bytes:
    return network.network_address.packed if network else bytes(_address_bytes(layout))


def _mask(network: Network | None, layout: struct.Struct) -> bytes:
    return network.netmask.packed if network else bytes(_address_bytes(layout))


def unpack_spec(spec: bytes) -> Flow | None:
    """The flow of a rule; None where it is not one that :class:`Flow` can say."""
    kind, values, _, masks, _, _, _ = _SPEC.unpack(spec)
    kind &= ~FLOW_RSS
    if kind not in (TCP_V4_FLOW, TCP_V6_FLOW):
        return None
    layout = _TCP4 if kind == TCP_V4_FLOW else _TCP6
    src, dst, src_port, dst_port, _ = layout.unpack_from(values)
    src_mask, dst_mask, src_port_mask, dst_port_mask, class_mask = layout.unpack_from(masks)
    if class_mask or {src_port_mask, dst_port_mask} - {0, 0xFFFF}:
        return None
    try:
        return Flow(
            "tcp4" if kind == TCP_V4_FLOW else "tcp6",
            _network(dst, dst_mask),
            dst_port & dst_port_mask,
            _network(src, src_mask),
            src_port & src_port_mask,
        )
    except ValueError:
        return None  # a mask with holes


def _network(address: bytes, mask: bytes) -> Network | None:
    if not any(mask):
        return None
    bits = int.from_bytes(mask)
    length = bits.bit_count()
    if bits != (1 << len(mask) * 8) - (1 << len(mask) * 8 - length):
        raise ValueError("a mask with holes")
    kind = IPv4Network if len(mask) == 4 else IPv6Network
    network = ip_network((address, length), strict=False)
    assert isinstance(network, kind)
    return network


def unpack_rule(data: bytes) -> Rule:
    """A rule from the kernel's ``struct ethtool_rxnfc``."""
    _, flow_type, _, spec, context = _RXNFC.unpack_from(data)
    kind, values, value_ext, masks, mask_ext, cookie, location = _SPEC.unpack(spec)
    rss = bool((kind | flow_type) & FLOW_RSS)
    flow = unpack_spec(spec)
    same = _SPEC.pack(kind | flow_type & FLOW_RSS, values, value_ext, masks, mask_ext, cookie, 0)
    return Rule(
        location=location,
        queue=None if cookie == RX_CLS_FLOW_DISC else cookie,
        context=context if rss else None,
        flow=None if flow is None else str(flow),
        spec=same.hex(),
    )


def _rxnfc(
    command: int, spec: bytes = bytes(_SPEC.size), *, last: int = 0, rules: int = 0
) -> bytes:
    flow_type = struct.unpack_from("=I", spec)[0] & FLOW_RSS
    return _RXNFC.pack(command, flow_type, 0, spec, last)[:_LOCATIONS_AT] + bytes(max(4, 4 * rules))


class Ntuple:
    """The rules of one NIC; see :class:`pyzcrx.nic.ethtool.Ethtool` for the errors.

    Found by index, as the ioctl wants a name and that may change.
    """

    def __init__(self, ifindex: int) -> None:
        self._ifindex = ifindex

    def rules(self) -> tuple[tuple[Rule, ...], int] | None:
        """The rules by location, and the table's size (0: unknown); None: not of this NIC."""
        try:
            answer = self._call("read rules", _rxnfc(GRXCLSRLCNT))
            count = _RXNFC.unpack(answer)[4]
            answer = self._call("read rules", _rxnfc(GRXCLSRLALL, last=count, rules=count))
        except NotSupported:
            return None
        except KernelError as error:
            if error.errno == errno.EINVAL:  # how some drivers say it
                return None
            raise
        _, _, slots, _, count = _RXNFC.unpack_from(answer)
        rules = []
        for location in struct.unpack_from(f"={count}I", answer, _LOCATIONS_AT):
            spec = _SPEC.pack(0, b"", b"", b"", b"", 0, location)
            rules.append(unpack_rule(self._call("read rules", _rxnfc(GRXCLSRULE, spec))))
        return tuple(sorted(rules, key=lambda rule: rule.location)), slots & ~RX_CLS_LOC_SPECIAL

    @property
    def places_itself(self) -> bool:
        """Whether the driver finds a free place for a rule (``RX_CLS_LOC_SPECIAL``)."""
        return bool(
            _RXNFC.unpack(self._call("read rules", _rxnfc(GRXCLSRLCNT)))[2] & RX_CLS_LOC_SPECIAL
        )

    def insert(self, flow: Flow, *, queue: int = 0, context: int | None = None) -> int:
        """Steer *flow* to *queue*, or over an RSS context; gives the rule's location.

        Raises NotPermitted (EPERM), NotSupported (ntuple off, or a match the NIC
        cannot do), RuleTableFull (ENOSPC), InvalidRequest.
        """
        location = RX_CLS_LOC_ANY if self.places_itself else self._free()
        spec = pack_spec(flow, queue=queue, location=location, rss=context is not None)
        answer = self._call("insert rule", _rxnfc(SRXCLSRLINS, spec, last=context or 0), str(flow))
        return int(_SPEC.unpack(_RXNFC.unpack(answer)[3])[6])

    def _free(self) -> int:
        """The last free place, as lower ones go first and belong to finer rules."""
        found = self.rules()
        if found is None:
            raise kernel_error(errno.EOPNOTSUPP, "insert rule", self._subject())
        taken, slots = {rule.location for rule in found[0]}, found[1]
        free = next((i for i in reversed(range(slots)) if i not in taken), None)
        if free is None:
            raise kernel_error(errno.ENOSPC, "insert rule", self._subject())
        return free

    def delete(self, location: int) -> None:
        """Raises KernelError with ENOENT where there is none."""
        spec = _SPEC.pack(0, b"", b"", b"", b"", 0, location)
        self._call("delete rule", _rxnfc(SRXCLSRLDEL, spec), f"location {location}")

    def driver(self) -> tuple[str, str, str] | None:
        """Driver, firmware and bus, which netlink does not tell either."""
        try:
            data = self._call("read driver", _DRVINFO.pack(GDRVINFO, *[b""] * 6, *[0] * 5))
        except NotSupported:
            return None
        driver, _, firmware, bus = (
            text.split(b"\0")[0].decode(errors="replace") for text in _DRVINFO.unpack(data)[1:5]
        )
        return driver, firmware, bus

    def _subject(self, extra: str = "") -> str:
        return f"interface {self._ifindex}" + (f", {extra}" if extra else "")

    def _call(self, operation: str, argument: bytes, extra: str = "") -> bytes:
        memory = array.array("B", argument)
        subject = self._subject(extra)
        try:
            name = os.fsencode(find(self._ifindex).name)
            request = struct.pack("16sP16x", name, memory.buffer_info()[0])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, SIOCETHTOOL, request)
        except OSError as error:
            raise typed(error, operation, subject) from None
        return memory.tobytes()

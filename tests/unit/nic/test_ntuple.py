"""The rule structures: sizes and offsets of the kernel's, and back to the flow."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings

from pyzcrx.nic import ntuple
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.ntuple import pack_spec, unpack_rule, unpack_spec
from tests.unit.nic.test_flow import FLOWS

FLOW = Flow.parse("tcp4 dst 192.0.2.1:9999 src 198.51.100.0/24:40000")


def test_sizes_and_offsets_are_the_kernels() -> None:
    # struct ethtool_rx_flow_spec, ethtool_rxnfc, ethtool_drvinfo on 64-bit machines
    assert ntuple._SPEC.size == 168
    assert ntuple._RXNFC.size == 192
    assert ntuple._LOCATIONS_AT == 188
    assert ntuple._DRVINFO.size == 196
    spec = pack_spec(FLOW, queue=3, location=7)
    assert struct.unpack_from("=I", spec) == (1,)
    assert spec[4:8] == bytes([198, 51, 100, 0])
    assert spec[8:12] == bytes([192, 0, 2, 1])
    assert spec[12:16] == struct.pack("!HH", 40000, 9999)
    assert spec[76:80] == bytes([255, 255, 255, 0])
    assert spec[80:84] == b"\xff" * 4
    assert spec[84:88] == b"\xff" * 4
    assert struct.unpack_from("=QI", spec, 152) == (3, 7)


def test_ipv6_places() -> None:
    spec = pack_spec(Flow.parse("tcp6 dst [2001:db8::1]:9999"), queue=1)
    assert struct.unpack_from("=I", spec) == (5,)
    assert spec[4:20] == bytes(16)
    assert spec[20:36] == bytes.fromhex("20010db8000000000000000000000001")
    assert spec[36:40] == struct.pack("!HH", 0, 9999)
    assert spec[76:92] == bytes(16)
    assert spec[92:108] == b"\xff" * 16
    assert spec[108:112] == b"\0\0\xff\xff"


@settings(deadline=None)
@given(FLOWS)
def test_round_trip(flow: Flow) -> None:
    assert unpack_spec(pack_spec(flow, queue=2, location=9)) == flow


def rxnfc(spec: bytes, context: int = 0) -> bytes:
    return ntuple._RXNFC.pack(ntuple.GRXCLSRULE, 0, 0, spec, context)


def test_rule() -> None:
    rule = unpack_rule(rxnfc(pack_spec(FLOW, queue=3, location=7)))
    assert (rule.location, rule.queue, rule.context, rule.flow) == (7, 3, None, str(FLOW))
    # Location is no part of what a rule is.
    assert rule.spec == unpack_rule(rxnfc(pack_spec(FLOW, queue=3, location=8))).spec
    assert rule.spec != unpack_rule(rxnfc(pack_spec(FLOW, queue=2, location=7))).spec


def test_rule_over_a_context() -> None:
    rule = unpack_rule(rxnfc(pack_spec(FLOW, location=7, rss=True), context=5))
    assert (rule.queue, rule.context, rule.flow) == (0, 5, str(FLOW))


def test_drop_rule() -> None:
    rule = unpack_rule(rxnfc(pack_spec(FLOW, queue=ntuple.RX_CLS_FLOW_DISC)))
    assert rule.queue is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, struct.pack("=I", 0x12)),  # an Ethernet rule
        (76, b"\xff\0\xff\0"),  # a mask with holes
        (84, b"\xff\0"),  # half a port
        (88, b"\xff"),  # type of service
    ],
)
def test_rules_that_no_flow_can_say(at: int, value: bytes) -> None:
    spec = bytearray(pack_spec(FLOW, queue=3))
    spec[at : at + len(value)] = value
    assert unpack_spec(bytes(spec)) is None
    assert unpack_rule(rxnfc(bytes(spec))).flow is None

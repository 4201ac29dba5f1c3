"""Flows: their text, what they match, and the equal words for ethtool."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyzcrx.errors import BadArgument
from pyzcrx.nic.flow import Flow

PORTS = st.integers(0, 65535)
V4 = st.none() | st.builds(
    lambda address, length: ip_network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)
V6 = st.none() | st.builds(
    lambda address, length: ip_network((address, length), strict=False),
    st.integers(2**32, 2**128 - 1),
    st.integers(1, 128),
)
FLOWS = st.builds(Flow, st.just("tcp4"), V4, PORTS, V4, PORTS) | st.builds(
    Flow, st.just("tcp6"), V6, PORTS, V6, PORTS
)


@settings(deadline=None)
@given(FLOWS)
def test_text_round_trip(flow: Flow) -> None:
    assert Flow.parse(str(flow)) == flow


@settings(deadline=None)
@given(FLOWS)
def test_a_flow_overlaps_itself_and_any_is_overlapped_by_all(flow: Flow) -> None:
    assert flow.overlaps(flow)
    assert flow.overlaps(Flow(flow.protocol))
    assert Flow(flow.protocol).overlaps(flow)


def test_parse() -> None:
    flow = Flow.parse("tcp4 dst 192.0.2.1:9999 src 198.51.100.0/24:*")
    assert flow == Flow("tcp4", ip_network("192.0.2.1"), 9999, ip_network("198.51.100.0/24"))
    assert Flow.parse("tcp6 dst [2001:db8::1]:80").dst == ip_network("2001:db8::1")
    assert Flow.parse("tcp4 dst *:80") == Flow("tcp4", dst_port=80)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp4",
        "udp4 dst 192.0.2.1:1",
        "tcp4 to 192.0.2.1:1",
        "tcp4 dst 192.0.2.1:65536",
        "tcp4 dst 192.0.2.1/33:1",
        "tcp4 dst 192.0.2.1/24:1",
        "tcp6 dst 192.0.2.1:1",
        "tcp4 dst 1:2 dst 1:2",
        "tcp4 dst 192.0.2:1",
        "tcp4 dst */8:1",
        "tcp4 dst",
    ],
)
def test_what_is_no_flow(text: str) -> None:
    with pytest.raises(BadArgument):
        Flow.parse(text)


def test_what_a_flow_matches() -> None:
    flow = Flow.parse("tcp4 dst 192.0.2.1:9999 src 198.51.100.0/24:*")
    here, peer, nobody = (ip_address(a) for a in ("192.0.2.1", "198.51.100.7", "203.0.113.1"))
    assert flow.matches(here, 9999, peer, 40000)
    assert not flow.matches(here, 80, peer, 40000)
    assert not flow.matches(here, 9999, nobody, 40000)
    assert not flow.matches(nobody, 9999, peer, 40000)
    assert not flow.matches(ip_address("2001:db8::1"), 9999, peer, 1)
    # A listening socket: any address, no peer yet.
    any4 = ip_address("0.0.0.0")
    assert flow.matches(any4, 9999, any4, 0)


def test_overlap() -> None:
    one = Flow.parse("tcp4 dst 192.0.2.1:9999")
    assert one.overlaps(Flow.parse("tcp4 dst 192.0.2.0/24:*"))
    assert not one.overlaps(Flow.parse("tcp4 dst 192.0.2.1:80"))
    assert not one.overlaps(Flow.parse("tcp4 dst 192.0.3.0/24:9999"))
    assert not one.overlaps(Flow.parse("tcp6 dst *:9999"))


def test_ethtool_words() -> None:
    flow = Flow.parse("tcp4 dst 192.0.2.0/24:9999 src 198.51.100.1:40000")
    assert flow.ethtool() == (
        "flow-type tcp4 src-ip 198.51.100.1 src-port 40000 "
        "dst-ip 192.0.2.0 m 0.0.0.255 dst-port 9999"
    )

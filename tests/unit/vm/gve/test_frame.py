"""The parser takes anything; checksums and segments are what a wire would carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vm.gve.frames import ARP, naive_sum, right, tcp
from vm.gve.frame import Kind, folded, intact, parse, segments, set_checksum


@given(st.binary(max_size=100), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]))
def test_any_frame_is_parsed(data: bytes, ethertype: bytes) -> None:
    frame = data[:12] + ethertype + data[12:]
    parsed = parse(frame)
    intact(frame, parsed)
    set_checksum(bytearray(frame), parsed)


@given(st.binary(max_size=200))
def test_the_sum_is_that_of_words(data: bytes) -> None:
    assert folded(data) % 0xFFFF == naive_sum(data) % 0xFFFF


@pytest.mark.parametrize("v6", [False, True])
def test_parts_of_tcp(v6: bool) -> None:
    frame = tcp(b"payload", v6=v6)
    parsed = parse(frame)
    assert parsed.kind == (Kind.TCP6 if v6 else Kind.TCP4)
    assert frame[parsed.headers :] == b"payload"
    assert parsed.flow[2:] == (1000, 2000)
    assert right(frame)
    assert intact(frame, parsed)


def test_a_fragment_and_arp_have_no_ports() -> None:
    frame = bytearray(tcp(b"x"))
    frame[20] |= 0x20
    assert parse(frame).kind == Kind.IP4
    assert parse(ARP).kind == Kind.UNKNOWN
    assert parse(ARP).headers == 0


@given(st.integers(34, 80), st.integers(0, 7))
def test_every_flipped_bit_is_seen(where: int, bit: int) -> None:
    frame = bytearray(tcp(bytes(27)))
    parsed = parse(frame)
    frame[where] ^= 1 << bit
    assert not intact(frame, parsed)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("size", [1, 1000, 1001, 5000])
def test_segments_are_frames(size: int, v6: bool) -> None:
    payload = bytes(index % 251 for index in range(size))
    large = tcp(payload, v6=v6)
    parsed = parse(large)
    pieces = [bytes(piece) for piece in segments(large, parsed, 1000)]
    assert b"".join(piece[parsed.headers :] for piece in pieces) == payload
    assert all(map(right, pieces))
    sequences = [int.from_bytes(piece[parsed.l4 + 4 : parsed.l4 + 8], "big") for piece in pieces]
    assert sequences == list(range(5, 5 + size, 1000))
    flags = [piece[parsed.l4 + 13] for piece in pieces]
    assert flags == [0x10] * (len(pieces) - 1) + [0x19]

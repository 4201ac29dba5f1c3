"""Netlink's errors, and the numbers of our tables against the kernel's headers."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyzcrx.nic import messages, tables
from pyzcrx.nic.netlink import extack, packed_uint, uint

HEADERS = [
    Path(os.environ.get("PYZCRX_KERNEL_HEADERS", "/usr/include/linux")) / name
    for name in ("ethtool_netlink_generated.h", "ethtool_netlink.h", "ethtool.h", "netdev.h")
]
ACK_TLVS, CAPPED = 0x200, 0x100


def error(text: bytes | None, *, request: bytes = b"", capped: bool = True) -> bytes:
    header = struct.pack("=IHHII", 16 + len(request), 1, 1, 1, 1)
    data = struct.pack("=i", -22) + header + (b"" if capped else request)
    data += struct.pack("=HHI", 8, 2, 40)  # the offset of the bad attribute
    if text is not None:
        data += struct.pack("=HH", 5 + len(text), 1) + text + b"\0"
    return data


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_words_are_found(capped: bool) -> None:
    data = error(b"no such thing", request=b"12345678", capped=capped)
    flags = ACK_TLVS | (CAPPED if capped else 0)
    assert extack(data, flags, done=False) == "no such thing"
    assert extack(data, flags & ~ACK_TLVS, done=False) == ""


def test_words_at_the_end_of_a_dump() -> None:
    data = struct.pack("=i", -22) + struct.pack("=HH", 7, 1) + b"no\0"
    assert extack(data, ACK_TLVS, done=True) == "no"


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_broken_words_break_nothing(data: bytes) -> None:
    whole = error(None) + data
    assert isinstance(extack(whole, ACK_TLVS | CAPPED, done=False), str)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_numbers_as_long_as_they_need(value: int) -> None:
    assert uint(packed_uint(value)) == value
    assert len(packed_uint(value)) == (4 if value < 2**32 else 8)


def test_no_number() -> None:
    assert uint(None) is None


def header_numbers() -> dict[str, int]:
    """Every enumerator of the headers that this machine has."""
    numbers: dict[str, int] = {}
    for path in HEADERS:
        if not path.is_file():
            continue
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, flags=re.S):
            value = -1
            for entry in filter(None, map(str.strip, body.split(","))):
                name, _, number = entry.partition("=")
                try:
                    value = int(number, 0) if number.strip() else value + 1
                except ValueError:
                    break
                numbers[name.strip()] = value
    return numbers


def our_numbers() -> dict[str, int]:
    numbers: dict[str, int] = {}

    def add(cls: Any) -> None:
        for number, name, kind in cls.nla_map:
            numbers[name] = number
            nested = cls.__dict__.get(kind)
            if nested is not None:
                add(nested)

    for cls in vars(messages).values():
        if (
            isinstance(cls, type)
            and cls.__module__ == messages.__name__
            and hasattr(cls, "nla_map")
        ):
            add(cls)
    for prefix, enum in (
        ("ETHTOOL_MSG_", tables.EthtoolMsg),
        ("ETHTOOL_MSG_", tables.EthtoolNtf),
        ("ETHTOOL_TCP_DATA_SPLIT_", tables.TcpDataSplit),
        ("NETDEV_CMD_", tables.NetdevCmd),
        ("NETDEV_QUEUE_TYPE_", tables.QueueType),
    ):
        numbers |= {prefix + member.name: int(member) for member in enum}
    return numbers


def test_our_numbers_are_the_kernels() -> None:
    kernel, ours = header_numbers(), our_numbers()
    common = kernel.keys() & ours.keys()
    if not common:
        pytest.skip("expected: no kernel headers on this machine")
    assert len(ours) > 80
    assert {name: ours[name] for name in common} == {name: kernel[name] for name in common}

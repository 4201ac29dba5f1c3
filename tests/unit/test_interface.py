"""Which interface a name or an index means, and that one module alone decides it."""

from __future__ import annotations

import ast
import socket
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel.interface import Interface, features, find, merges_frames, mtu, rx_ring_entries

ROOT = Path(pyzcrx.__file__).parent
LOOPBACK = Interface(socket.if_nametoindex("lo"), "lo")


@pytest.mark.parametrize("interface", ["lo", LOOPBACK.index])
def test_found(interface: str | int) -> None:
    assert find(interface) == LOOPBACK
    assert str(find(interface)) == "lo"


NAMES = [
    "nosuch0",
    "",
    "lo\0",
    "lo" + "\0" * 14 + "x",
    "fifteen-bytes-x",
    "sixteen-bytes-xy",
    "a" * 127,
    "a" * 128,
    "a" * 70_000,
    "two\nlines",
    "\udc80",
    "\ud800",
]


@pytest.mark.parametrize("look", [find, features, merges_frames, mtu, rx_ring_entries])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_such_name(look: Any, name: str) -> None:
    with pytest.raises(pyzcrx.errors.NoSuchInterface, match="no such interface") as caught:
        look(name)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_no_such_index() -> None:
    with pytest.raises(pyzcrx.errors.NoSuchInterface, match="no such interface"):
        find((1 << 31) - 1)


@pytest.mark.parametrize("wrong", [0, -1, 1 << 31, 1 << 40, 1 << 64, True, 1.0, None, b"lo"])
def test_what_is_neither_a_name_nor_an_index(wrong: Any) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="interface"):
        find(wrong)


def test_only_one_module_resolves_names() -> None:
    """What asks libc by itself does not know long alternative names."""
    resolving = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("if_nametoindex", "if_indextoname")
    }
    assert resolving == {"_kernel/interface.py"}

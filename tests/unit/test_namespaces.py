"""Which sockets count as left in a namespace, and that no test removes one by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.namespaces import tcp_sockets

TESTS = Path(__file__).resolve().parents[1]
SOCKSTAT = """\
sockets: used 9
TCP: inuse {tcp} orphan 3 tw {tw} alloc 7 mem 370
UDP: inuse 5 mem 0
UDPLITE: inuse 6
RAW: inuse 7
FRAG: inuse 8 memory 0
TCP6: inuse {tcp6}
UDP6: inuse 9
"""


@pytest.mark.parametrize(
    ("tcp", "tcp6", "tw", "sockets"), [(0, 0, 0, 0), (1, 0, 0, 1), (0, 12, 0, 12), (0, 0, 4, 0)]
)
def test_tcp_sockets_of_both_families_count(tcp: int, tcp6: int, tw: int, sockets: int) -> None:
    assert tcp_sockets(SOCKSTAT.format(tcp=tcp, tcp6=tcp6, tw=tw)) == sockets


REMOVAL = re.compile(r"\bnetns\W{1,6}del(ete)?\b")


def test_only_the_helper_removes_namespaces() -> None:
    """So that every removal checks for sockets first."""
    sources = (path for path in TESTS.rglob("*.py") if path != Path(__file__).resolve())
    removing = {
        str(path.relative_to(TESTS)) for path in sources if REMOVAL.search(path.read_text())
    }
    assert removing == {"namespaces.py"}


@pytest.mark.parametrize(
    "text", ['"netns", "del", name', "netns del peer", '"netns add far", "netns delete far"']
)
def test_a_removal_is_recognised(text: str) -> None:
    assert REMOVAL.search(text)

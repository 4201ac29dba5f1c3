"""The hash is Toeplitz', rules come before it, and what has no ports goes to queue 0."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.unit.vm.gve.frames import ARP, tcp
from vm.gve.frame import parse
from vm.gve.steering import NoRule, Steering, toeplitz

# Of Microsoft's "Verifying the RSS Hash Calculation".
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
VECTORS = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xC626B0EA),
]


@pytest.mark.parametrize(("source", "sport", "target", "dport", "wanted"), VECTORS)
def test_toeplitz(source: str, sport: int, target: str, dport: int, wanted: int) -> None:
    data = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">HH", sport, dport)
    assert toeplitz(KEY, data) == wanted


def rule(queue: int, *, kind: int = 0, port: int = 2000, mask: int = 0xFFFF) -> bytes:
    key = bytes(32) + struct.pack(">HH", 0, port) + bytes(4)
    masks = bytes(32) + struct.pack(">HH", 0, mask) + bytes(4)
    return struct.pack(">HH", kind, queue) + key + masks


def test_the_table_decides_and_can_change() -> None:
    steering = Steering(4)
    parsed = parse(tcp(b"x"))
    queue, hashed = steering.queue(parsed)
    assert queue == steering.table[hashed % 128] < 4
    steering.set_hash(0xFFFF, None, [3] * 128)
    assert steering.queue(parsed) == (3, hashed)


def test_the_lowest_rule_that_matches_wins() -> None:
    steering = Steering(4)
    parsed = parse(tcp(b"x"))
    steering.set_hash(0xFFFF, None, [0] * 128)
    steering.add_rule(9, rule(3))
    steering.add_rule(4, rule(1, port=2001))
    steering.add_rule(5, rule(2, kind=5))
    assert steering.queue(parsed)[0] == 3
    steering.add_rule(6, rule(1, mask=0))
    assert steering.queue(parsed)[0] == 1
    steering.remove_rule(6)
    assert steering.queue(parsed)[0] == 3
    assert [location for location, _ in steering.rules(5)] == [5, 9]
    steering.clear_rules()
    assert steering.queue(parsed)[0] == 0
    with pytest.raises(NoRule):
        steering.remove_rule(9)


def test_what_has_no_ports_goes_to_queue_0() -> None:
    steering = Steering(4)
    steering.set_hash(0xFFFF, None, [1] * 128)
    assert steering.queue(parse(ARP)) == (0, 0)
    assert steering.queue(parse(tcp(b"x", v6=True)))[0] == 1

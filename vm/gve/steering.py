"""Which rx queue a frame goes to: flow rules first, then the hash and its table.

gve_ethtool.c:gve_set_rxfh() and gve_flow_rule.c. What has no ports (ARP, neighbour discovery,
ICMP, fragments) goes to queue 0, where no flow was asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vm.gve.frame import PORTED, Kind, Parsed

KEY_BYTES, TABLE_ENTRIES = 40, 128
MOST_RULES = 512
MOST_FLOWS = 4096
"""Remembered ones; beyond, all are worked out anew."""
DEFAULT_KEY = bytes(range(1, KEY_BYTES + 1))
FLOW_TYPES = {Kind.TCP4: 0, Kind.UDP4: 1, Kind.TCP6: 5, Kind.UDP6: 6}
"""enum gve_adminq_flow_type."""
RULE = struct.Struct(">HH40s40s")
"""struct gve_adminq_flow_rule: type, queue, key, mask."""
MATCHED = 36
"""Addresses and ports; tos is not matched, as the driver never sets it."""


def toeplitz(key: bytes, data: bytes) -> int:
    """The hash of RSS: for each bit that is set, the 32 bits of the key from there on."""
    bits = len(key) * 8
    window = int.from_bytes(key, "big")
    result = 0
    for index in range(len(data) * 8):
        if data[index >> 3] & (0x80 >> (index & 7)):
            result ^= window >> (bits - 32 - index) & 0xFFFFFFFF
    return result


class NoRule(Exception):
    """There is no flow rule at that location."""


class Steering:
    """The decisions of one NIC, remembered for each flow."""

    def __init__(self, queues: int) -> None:
        self.key = DEFAULT_KEY
        self.table = [index % queues for index in range(TABLE_ENTRIES)]
        self.hash_types = 0xFFFF
        self._rules: dict[int, bytes] = {}
        self._known: dict[tuple[object, ...], tuple[int, int]] = {}

    def set_hash(self, types: int, key: bytes | None, table: list[int] | None) -> None:
        self.hash_types = types
        self.key = key or self.key
        self.table = table or self.table
        self._known.clear()

    def queue(self, parsed: Parsed) -> tuple[int, int]:
        """The queue's number, and the hash."""
        if parsed.kind not in PORTED:
            return 0, 0
        flow = (parsed.kind, parsed.flow)
        found = self._known.get(flow)
        if found is None:
            if len(self._known) >= MOST_FLOWS:
                self._known.clear()
            found = self._known[flow] = self._decide(parsed)
        return found

    def _decide(self, parsed: Parsed) -> tuple[int, int]:
        source, target, *ports = parsed.flow
        hashed = toeplitz(self.key, source + target + struct.pack(">HH", *ports))
        number = self.table[hashed % len(self.table)]
        mine = source.ljust(16, b"\0") + target.ljust(16, b"\0") + struct.pack(">HH", *ports)
        value = int.from_bytes(mine, "big")
        for _, rule in sorted(self._rules.items()):
            kind, queue, key, mask = RULE.unpack(rule)
            wrong = value ^ int.from_bytes(key[:MATCHED], "big")
            wrong &= int.from_bytes(mask[:MATCHED], "big")
            if kind == FLOW_TYPES[parsed.kind] and not wrong:
                return queue, hashed
        return number, hashed

    # Flow rules, as the driver has them: opaque but for what is matched.

    def add_rule(self, location: int, rule: bytes) -> None:
        self._rules[location] = rule
        self._known.clear()

    def remove_rule(self, location: int) -> None:
        if self._rules.pop(location, None) is None:
            raise NoRule
        self._known.clear()

    def clear_rules(self) -> None:
        self._rules.clear()
        self._known.clear()

    def rules(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """From that location on, in order."""
        return (each for each in sorted(self._rules.items()) if each[0] >= start)

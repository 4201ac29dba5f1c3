"""A tx queue in the format DQO RDA: descriptors that the driver posts, completions that it reads.

gve_tx_dqo.c. A packet is one or more descriptors of 16 bytes, those of a large one behind a
context with its segment size (gve_tx_fill_tso_ctx_desc()). Each packet's tag comes back in a
completion, and the ring's position where the driver asked for it by report_event: more of these
would overflow the ring of completions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vm.gve.memory import Memory

DESCRIPTOR, COMPLETION = 16, 8
PACKET, SEGMENTED, METADATA = 0xC, 0x5, 0x4  # GVE_TX_*_DTYPE_DQO
KIND, END, CHECKSUM, REPORT = 31, 1 << 5, 1 << 6, 1 << 7
PACKET_DONE, POSITION = 2, 4  # GVE_COMPL_TYPE_DQO_PKT, GVE_COMPL_TYPE_DQO_DESC
SIZE = 0x3FFF


@dataclass(frozen=True)
class Setting:
    """What GVE_ADMINQ_CREATE_TX_QUEUE says."""

    number: int
    block: int
    ring_at: int
    entries: int
    completions_at: int
    completions: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet of the driver's."""

    frame: bytes
    checksum: bool
    """Whether its transport checksum is left to the NIC."""
    mss: int
    """How much payload its frames get; 0 if it is one frame."""


class TxQueue:
    def __init__(self, setting: Setting, memory: Memory) -> None:
        self.setting = setting
        self.unknown = 0
        """Descriptors of a kind that this model does not have."""
        self._memory = memory
        self._ring = memory.at(setting.ring_at, setting.entries * DESCRIPTOR)
        self._completions = memory.at(setting.completions_at, setting.completions * COMPLETION)
        self._head = 0
        self._next = 0
        self._generation = 1
        self._parts: list[memoryview] = []
        self._mss = 0

    def packets(self, tail: int) -> Iterator[Sent]:
        """Those up to this doorbell. Each is completed when the next one is asked for."""
        mask = self.setting.entries - 1
        tail &= mask
        while self._head != tail:
            where = self._head * DESCRIPTOR
            self._head = (self._head + 1) & mask
            flags = self._ring[where + 8]
            kind = flags & KIND
            if kind == PACKET:
                address, _, _, tag, size = struct.unpack_from("<QHHHH", self._ring, where)
                self._parts.append(self._memory.at(address, size & SIZE))
                if flags & REPORT:
                    self._complete(POSITION, self._head)
                if flags & END:
                    frame, mss = b"".join(self._parts), self._mss
                    self._parts, self._mss = [], 0
                    yield Sent(frame, bool(flags & CHECKSUM), mss)
                    self._complete(PACKET_DONE, tag)
            elif kind == SEGMENTED:
                self._mss = struct.unpack_from("<H", self._ring, where + 4)[0] & SIZE
            elif kind != METADATA:
                self.unknown += 1

    def _complete(self, kind: int, value: int) -> None:
        where = self._next * COMPLETION
        struct.pack_into("<H", self._completions, where + 2, value)
        word = self.setting.number | kind << 11 | self._generation << 15
        struct.pack_into("<H", self._completions, where, word)
        self._next = (self._next + 1) & (self.setting.completions - 1)
        if not self._next:
            self._generation ^= 1

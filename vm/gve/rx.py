"""An rx queue in the format DQO RDA: buffers that the driver posts, completions that it reads.

gve_rx_dqo.c. The driver posts buffers by writing descriptors of 32 bytes and ringing the
doorbell at multiples of 32 (gve_rx_post_buffers_dqo()). Of each completion it takes the length
and the generation bit first, so that word is written last; packet type, RSC and the segment's
length it takes from a packet's last completion, split headers from the first
(gve_rx_poll_dqo()). A packet without payload takes a buffer all the same.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass

from vm.gve.frame import Parsed, segments, set_lengths
from vm.gve.memory import Memory

DESCRIPTOR = COMPLETION = 32
POSTED = struct.Struct("<H6xQQ")  # struct gve_rx_desc_dqo: id, buffer, header buffer
HEAD = struct.Struct("<BBH")  # rxdid, flags, packet type
REST = struct.Struct("<HBBBBHHI")  # from the header's length on
RSC, SPLIT = 1 << 10, 1 << 11
DONE, END, OVERFLOW, PARSED = 1, 2, 4, 8
GENERATION = 14


@dataclass(frozen=True)
class Setting:
    """What GVE_ADMINQ_CREATE_RX_QUEUE says."""

    number: int
    block: int
    completions_at: int
    completions: int
    buffers_at: int
    buffers: int
    buffer_bytes: int
    header_bytes: int
    """0: headers are not split off."""
    coalesce: bool
    """Whether RSC may hand over more than a frame as one packet."""


class RxQueue:
    """Frames in, as long as there are buffers; ``books`` counts what came of each."""

    def __init__(self, setting: Setting, memory: Memory, books: Counter[str]) -> None:
        self.setting = setting
        self.books = books
        self.starved = False
        """A fault: it is as if no buffer were there."""
        self.overflow_next = False
        """A fault: the next split frame's headers do not fit the header buffer."""
        self._memory = memory
        self._completions = memory.at(setting.completions_at, setting.completions * COMPLETION)
        self._buffers = memory.at(setting.buffers_at, setting.buffers * DESCRIPTOR)
        self._head = self._tail = 0
        self._next = 0
        self._generation = 1

    @property
    def free(self) -> int:
        """Buffers that the driver has posted and no packet has taken."""
        if self.starved:
            return 0
        return (self._tail - self._head) & (self.setting.buffers - 1)

    def doorbell(self, tail: int) -> None:
        """Buffers were posted up to here."""
        self._tail = tail & (self.setting.buffers - 1)

    def take(self, frame: bytes | bytearray, parsed: Parsed, hashed: int, mss: int) -> bool:
        """Whether it is, or some frames of it are, in the driver's buffers.

        ``mss`` is that of a large frame that the sender's NIC would have segmented: it is handed
        over as one packet where the driver wants that and the buffers are enough.
        """
        if mss and self.setting.coalesce and self._needed(frame, parsed) <= self.free:
            whole = bytearray(frame)
            set_lengths(whole, parsed.kind)
            self._put(whole, parsed, hashed, mss)
            return True
        pieces = segments(frame, parsed, mss) if mss else (frame,)
        taken = False
        for piece in pieces:
            if self._needed(piece, parsed) <= self.free:
                self._put(piece, parsed, hashed, 0)
                taken = True
            else:
                self.books["no_buffer"] += 1
        return taken

    def _split(self, parsed: Parsed) -> int:
        return parsed.headers if parsed.headers <= self.setting.header_bytes else 0

    def _needed(self, frame: bytes | bytearray, parsed: Parsed) -> int:
        payload = len(frame) - self._split(parsed)
        return max(1, -(-payload // self.setting.buffer_bytes))

    def _put(self, frame: bytes | bytearray, parsed: Parsed, hashed: int, mss: int) -> None:
        split = self._split(parsed)
        needed = self._needed(frame, parsed)
        overflow = bool(self.overflow_next and split)
        if overflow:
            self.overflow_next, split = False, 0
        view = memoryview(frame)
        position = split
        self.books["frames"] += 1
        self.books["split_bytes" if split else "whole_bytes"] += len(frame) - split
        for number in range(needed):
            ident, address, header = POSTED.unpack_from(self._buffers, self._head * DESCRIPTOR)
            self._head = (self._head + 1) & (self.setting.buffers - 1)
            length = min(self.setting.buffer_bytes, len(frame) - position)
            if length:
                self._memory.at(address, length)[:] = view[position : position + length]
            position += length
            flags = RSC if mss else 0
            status = DONE | (PARSED if parsed.kind else 0) | (END if number == needed - 1 else 0)
            if not number and split:
                self._memory.at(header, split)[:] = view[:split]
                flags |= split | SPLIT
            if not number and overflow:
                flags |= SPLIT
                status |= OVERFLOW
            where = self._next * COMPLETION
            words = (flags, status, 0, 0, 0, ident, mss, hashed)
            REST.pack_into(self._completions, where + 6, *words)
            HEAD.pack_into(self._completions, where, 1, 0, parsed.kind)
            last = length | self._generation << GENERATION
            struct.pack_into("<H", self._completions, where + 4, last)
            self._next = (self._next + 1) & (self.setting.completions - 1)
            if not self._next:
                self._generation ^= 1

"""Which bytes of a chunk direct I/O can write from where they lie, sans-I/O.

Direct I/O (O_DIRECT) takes whole blocks: position in the file, address and length must all be
multiples of a limit of the file system. A stream of bytes in chunks of any size has positions
and addresses of its own. So each chunk has three parts: a head, copied, that completes the block
before it; a body of whole blocks, written in place; a tail, copied, that begins the next block.
"""

from __future__ import annotations

from typing import NamedTuple


class Alignment(NamedTuple):
    """What a file system demands of direct I/O, in bytes. Kernel: ``STATX_DIOALIGN`` (6.1)."""

    memory: int
    """Addresses are multiples of it."""
    block: int
    """Positions and lengths are multiples of it."""


ANY = Alignment(1, 1)
"""Buffered writes: everything can be written from where it lies."""


class Parts(NamedTuple):
    """One chunk: so many bytes copied, written in place, and copied again."""

    head: int
    body: int
    tail: int


def split(position: int, address: int, length: int, alignment: Alignment) -> Parts:
    """The parts of the *length* bytes at *address* that go to *position* of the file."""
    head = min(length, -position % alignment.block)
    body = (length - head) // alignment.block * alignment.block
    if body and (address + head) % alignment.memory:
        return Parts(length, 0, 0)  # no later byte of it is aligned in both
    return Parts(head, body, length - head - body)

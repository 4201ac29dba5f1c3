"""The plan of aligned writes, for all positions, addresses and lengths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyzcrx.record.plan import ANY, Alignment, Parts, split

POWERS = st.sampled_from([1, 4, 512, 4096])
ALIGNMENTS = st.builds(Alignment, POWERS, POWERS)
NUMBERS = st.one_of(st.integers(0, 1 << 40), st.integers(0, 1 << 28).map(lambda n: n * 4096))
LENGTHS = st.one_of(st.integers(0, 70_000), st.integers(0, 16).map(lambda n: n * 4096))


@given(NUMBERS, NUMBERS, LENGTHS, ALIGNMENTS)
def test_a_body_is_aligned_in_all_three(
    position: int, address: int, length: int, alignment: Alignment
) -> None:
    parts = split(position, address, length, alignment)
    assert sum(parts) == length
    assert min(parts) >= 0
    if parts.body:
        assert (position + parts.head) % alignment.block == 0
        assert parts.body % alignment.block == 0
        assert (address + parts.head) % alignment.memory == 0


@given(NUMBERS, NUMBERS, LENGTHS, ALIGNMENTS)
def test_no_more_is_copied_than_must_be(
    position: int, address: int, length: int, alignment: Alignment
) -> None:
    parts = split(position, address, length, alignment)
    head = -position % alignment.block
    if (address + head) % alignment.memory == 0:
        assert parts.head < alignment.block
        assert parts.tail < alignment.block
    else:
        assert parts.body == 0


@given(NUMBERS, NUMBERS, LENGTHS)
def test_buffered_writes_copy_nothing(position: int, address: int, length: int) -> None:
    assert split(position, address, length, ANY) == Parts(0, length, 0)


@given(NUMBERS, st.lists(st.tuples(NUMBERS, LENGTHS), max_size=20), ALIGNMENTS)
def test_what_waits_for_its_block_is_less_than_one(
    position: int, chunks: list[tuple[int, int]], alignment: Alignment
) -> None:
    """A body begins only where nothing incomplete waits before it."""
    waiting = position % alignment.block
    for address, length in chunks:
        parts = split(position, address, length, alignment)
        waiting = (waiting + parts.head) % alignment.block
        assert not (parts.body and waiting)
        waiting = (waiting + parts.tail) % alignment.block
        position += length
        assert waiting == position % alignment.block


def test_whole_pages_are_written_in_place() -> None:
    assert split(8192, 0x7000, 4096, Alignment(512, 4096)) == Parts(0, 4096, 0)
    assert split(8192 + 1, 0x7000, 4096, Alignment(512, 4096)) == Parts(4095, 0, 1)
    assert split(8192 + 512, 0x7000, 8192, Alignment(512, 4096)) == Parts(3584, 4096, 512)

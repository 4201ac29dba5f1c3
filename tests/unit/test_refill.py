"""The refill queue over plain memory: order, wrap, full, and what the kernel may do to it."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import Mapping
from pyzcrx._queue.refill import RefillQueue, region_bytes

HEAD, TAIL, RQES = 0, 4, 64


class Kernel:
    """The other side of the queue."""

    def __init__(self, entries: int, start: int = 0) -> None:
        self.mapping = Mapping.anonymous(region_bytes(entries))
        self.rq = RefillQueue(self.mapping, entries, head=HEAD, tail=TAIL, rqes=RQES)
        self._indices = ffi.cast("uint32_t *", self.mapping.address)
        self._rqes = ffi.cast("struct pz_rqe *", self.mapping.address + RQES)
        self._indices[0] = self._indices[1] = start

    def take(self, most: int) -> list[int]:
        taken = []
        while most and self._indices[0] != self._indices[1]:
            taken.append(int(self._rqes[self._indices[0] & (self.rq.entries - 1)].off))
            self._indices[0] = (self._indices[0] + 1) & 0xFFFFFFFF
            most -= 1
        return taken

    def set_head(self, head: int) -> None:
        self._indices[0] = head

    def push(self, offs: list[int]) -> int:
        memory = array("Q", offs)
        return self.rq._push(memoryview(memory))


def test_push_take_and_view() -> None:
    kernel = Kernel(8)
    assert kernel.push([10, 11, 12]) == 3
    assert (kernel.rq.tail, kernel.rq.head, kernel.rq.pending) == (3, 0, 3)
    view = kernel.rq.view
    assert view.shape == (8, 2)
    assert view.readonly
    assert [view[i, 0] for i in range(4)] == [10, 11, 12, 0]
    assert [view[i, 1] for i in range(4)] == [0, 0, 0, 0]
    assert kernel.take(2) == [10, 11]
    assert kernel.rq.pending == 1


def test_a_full_queue_takes_no_more() -> None:
    kernel = Kernel(4)
    assert kernel.push([1, 2, 3, 4, 5, 6]) == 4
    assert kernel.push([5]) == 0
    assert kernel.take(1) == [1]
    assert kernel.push([5, 6]) == 1
    assert kernel.take(9) == [2, 3, 4, 5]


@pytest.mark.parametrize("start", [0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF])
def test_indices_wrap_at_32_bits(start: int) -> None:
    kernel = Kernel(4, start)
    assert kernel.push([1, 2, 3]) == 3
    assert kernel.rq.pending == 3
    assert kernel.take(3) == [1, 2, 3]
    assert kernel.push([4, 5, 6, 7, 8]) == 4
    assert kernel.take(9) == [4, 5, 6, 7]


@pytest.mark.parametrize("head", [1, 100, 0x80000000])
def test_a_head_beyond_the_tail_stops_pushing(head: int) -> None:
    kernel = Kernel(4)
    kernel.set_head(head)
    assert kernel.push([1, 2]) == 0
    assert kernel.rq.tail == 0


@given(
    entries=st.sampled_from([1, 2, 8, 64]),
    start=st.integers(0, 0xFFFFFFFF),
    steps=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))),
)
def test_every_offset_arrives_once_and_in_order(
    entries: int, start: int, steps: list[tuple[int, int]]
) -> None:
    kernel = Kernel(entries, start)
    sent = 0
    received: list[int] = []
    for pushes, takes in steps:
        sent += kernel.push(list(range(sent, sent + pushes))) if pushes else 0
        received += kernel.take(takes)
        assert kernel.rq.pending == sent - len(received) <= entries
    received += kernel.take(entries)
    assert received == list(range(sent))

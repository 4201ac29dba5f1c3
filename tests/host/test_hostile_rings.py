"""Shared ring memory with hostile contents: no crash, no read beyond it, a typed error.

Fuzzed by hypothesis, guided by its own coverage of what fails; ``test_sanitizers.py``
runs all of it again on a shim built with AddressSanitizer.
"""

from __future__ import annotations

import struct
from array import array
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._lease import Account, Lease, Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.refill import RefillQueue, region_bytes
from pyzcrx._queue.registration import Wanted
from pyzcrx._ring.tokens import TOKEN_RECEIVE
from pyzcrx.testing import ModelKernel

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 70000))
tokens = st.one_of(u64, st.integers(0, 5), st.integers(TOKEN_RECEIVE, TOKEN_RECEIVE + 5))
results = st.integers(-(1 << 31), (1 << 31) - 1)
cqes = st.tuples(tokens, results, st.one_of(u32, st.just(2)), u64, u64)


def store(view: memoryview, address: int, base: int, value: int) -> None:
    at = address - base
    view[at : at + 4] = struct.pack("=I", value)


@settings(max_examples=200)
@given(
    contents=st.lists(cqes, min_size=8, max_size=8),
    ahead=st.one_of(st.integers(0, 20), u32),
    overflow=st.booleans(),
)
def test_a_completion_queue_that_others_wrote(
    contents: list[tuple[int, int, int, int, int]], ahead: int, overflow: bool
) -> None:
    with pyzcrx.Ring(sq_entries=4, cq_entries=8) as ring:
        base, view = ring._core._mapping.address, ring._core._mapping.view
        at = int(ring._core.cq._cq.cqes) - base
        for i, cqe in enumerate(contents):
            view[at + 32 * i : at + 32 * (i + 1)] = struct.pack("=QiIQQ", *cqe)
        store(view, int(ring._core.cq._cq.tail), base, (ring.cq_head + ahead) & 0xFFFFFFFF)
        if overflow:
            store(view, int(ring._core.cq._cq.flags), base, 1 << 1)  # IORING_SQ_CQ_OVERFLOW
        for _ in range(3):
            with suppress(pyzcrx.errors.CorruptRing):
                ring._core.turn(0)
            columns = ring._core.columns
            assert 0 <= columns.raw.n_data <= columns.capacity
            assert 0 <= columns.raw.n_other <= columns.capacity
            assert 0 <= columns.raw.n_runs <= columns.raw.n_data
            columns.raw.fresh = 0
        view.release()


@settings(max_examples=200)
@given(
    head=u32,
    tail=u32,
    entries=st.sampled_from([1, 2, 8, 64]),
    offs=st.lists(u64, min_size=1, max_size=100),
)
def test_a_refill_queue_that_others_wrote(
    head: int, tail: int, entries: int, offs: list[int]
) -> None:
    mapping = Mapping.anonymous(region_bytes(entries))
    rq = RefillQueue(mapping, entries, head=0, tail=4, rqes=64)
    mapping.view[:8] = struct.pack("=II", head, tail)
    behind = bytes(mapping.view[64 + 16 * entries :])
    data = array("Q", offs)
    pushed = rq._push(memoryview(data))
    pending = (tail - head) % (1 << 32)
    assert pushed == (min(len(offs), entries - pending) if pending <= entries else 0)
    assert bytes(mapping.view[64 + 16 * entries :]) == behind
    mapping.close()


@settings(max_examples=200)
@given(
    entries=st.lists(st.tuples(u64, u32), min_size=1, max_size=20),
    areas=st.integers(0, 3),
)
def test_completions_that_name_other_memory(entries: list[tuple[int, int]], areas: int) -> None:
    mappings = [Mapping.anonymous(4 * PAGE) for _ in range(areas)]
    memories: list[Span] = [mapping.span for mapping in mappings]
    account = Account()
    account.take(len(entries))
    offs = array("Q", [off for off, _ in entries])
    lengths = array("I", [length for _, length in entries])
    into: list[Lease] = []
    done = 0
    while done < len(entries):
        done = account.lease_run(
            into,
            lambda _, lease: lease,
            None,
            Buffer,
            memories,
            offs,
            lengths,
            done,
            len(entries),
            7,
        )
        done += done < len(entries)  # pass the bad one over
    for lease in into:
        assert len(bytes(lease)) == len(lease)
    good = [
        (off, length)
        for off, length in entries
        if off == (1 << 64) - 1
        or (off >> 48 < areas and (off & ((1 << 48) - 1)) + length <= 4 * PAGE and length >= 0)
    ]
    assert len(into) == sum(off != (1 << 64) - 1 for off, _ in good)
    into.clear()


@settings(max_examples=100)
@given(contents=st.binary(min_size=64, max_size=64))
def test_a_statistics_page_that_others_wrote(contents: bytes) -> None:
    with ModelKernel(), pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(16 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        memory = ffi.new("char[64]", contents)
        object.__setattr__(
            ifq._core.queue.registered, "stats", ffi.cast("struct pz_stats *", memory)
        )
        # As if on a card, where the page counts.
        ifq._core.queue.interface, ifq._core.nodev = "eth0", False
        copied = ifq.stats().bytes_copied
        assert copied == struct.unpack_from("=Q", contents, 8)[0]


@pytest.mark.parametrize("capacity", [0, 1 << 17])
def test_a_refill_queue_of_an_impossible_size(capacity: int) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="rq_entries"):
        Wanted(rq_entries=capacity)

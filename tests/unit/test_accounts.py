"""The accounts: every reference in exactly one place, whenever one looks."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE
from pyzcrx._pressure.audit import Audit
from pyzcrx._queue.notices import REARM_NS, Notices
from pyzcrx.testing import ModelKernel
from pyzcrx.uapi import EventType
from tests.unit.test_model import filled, receiving

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


def sizes(audit: Audit) -> tuple[int, int, int, int, int]:
    return audit.in_batch, audit.in_buffers, audit.held_back, audit.in_rq, audit.consumed


def test_a_reference_goes_from_place_to_place() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, 3 * PAGE).fileno())
        assert sizes(ifq.audit()) == (0, 0, 0, 0, 0)
        batch = ring.wait(0)
        assert sizes(ifq.audit()) == (3, 0, 0, 0, 0)
        (run,) = batch.runs()
        buffer = batch.buffer(run.request, 1)
        assert sizes(ifq.audit()) == (2, 1, 0, 0, 0)
        batch.release()
        assert sizes(ifq.audit()) == (0, 1, 0, 2, 0)
        buffer.release()
        assert sizes(ifq.audit()) == (0, 0, 1, 2, 0)
        ring.wait(0)
        assert sizes(ifq.audit()) == (0, 0, 0, 3, 0)
        ifq.flush()
        assert sizes(ifq.audit()) == (0, 0, 0, 0, 3)
        assert ifq.audit().taken == 3
    with pytest.raises(pyzcrx.ClosedError):
        ifq.audit()


def test_a_forgotten_buffer_is_in_the_accounts_by_name() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        for event in ring.events(timeout=0):
            del event
        gc.collect()
        found = ifq.audit()
        assert (found.forgotten, found.in_buffers, found.held_back + found.in_rq) == (1, 0, 1)


@settings(max_examples=30)
@given(
    pieces=st.lists(st.integers(1, 3 * PAGE), max_size=10),
    rq_entries=st.sampled_from([1, 8, 64]),
    pages=st.sampled_from([2, 16]),
    takes=st.sampled_from([0, 1]),
)
def test_the_books_balance_after_every_event(
    pieces: list[int], rq_entries: int, pages: int, takes: int
) -> None:
    kernel = ModelKernel(takes=takes)
    with receiving(kernel, pages=pages, rq_entries=rq_entries) as (ring, ifq):
        sock = kernel.socket()
        for size in pieces:
            sock.send(bytes(size))
        sock.finish()
        ifq.receive(sock.fileno())
        for event in ring.events():
            found = ifq.audit()
            assert sum(sizes(found)) == found.taken
            assert kernel.out == found.taken - found.consumed
            if isinstance(event, pyzcrx.Data):
                event.buffer.release()


def test_other_threads_release_while_the_owner_audits() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4000) as (ring, ifq):
        ifq.receive(filled(kernel, 3000 * PAGE).fileno())
        events = [e for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data)]

        def release() -> None:
            for event in events:
                event.buffer.release()

        thread = threading.Thread(target=release)
        thread.start()
        while thread.is_alive():
            assert ifq.audit().taken == len(events)
        thread.join()
        assert ifq.audit().in_buffers == 0


def test_a_reference_in_no_place_is_found() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, 2 * PAGE).fileno())
        batch = ring.wait(0)
        batch.offs[0] = (1 << 64) - 1  # lost: neither taken nor to be released
        with pytest.raises(pyzcrx.errors.AccountingError, match="leased = in the batch"):
            ifq.audit()


def test_a_refill_queue_that_others_wrote_is_found() -> None:
    kernel = ModelKernel()
    with receiving(kernel, rq_entries=8) as (ring, ifq):
        head = ffi.cast("uint32_t *", ifq.rq._mapping.address)
        head[0] = 5
        with pytest.raises(pyzcrx.errors.AccountingError, match="beyond its tail"):
            ifq.audit()
        with pytest.raises(pyzcrx.errors.CorruptRing, match="beyond its tail"):
            ring.wait(0)
        head[0] = 0
        tail = ffi.cast("uint32_t *", ifq.rq._mapping.address + 4)
        tail[0] = 1
        with pytest.raises(pyzcrx.errors.AccountingError, match="tail"):
            ifq.audit()
        tail[0] = 0
        ifq.audit()


def test_holders_are_the_oldest_first_with_their_request() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        first = ifq.receive(filled(kernel, PAGE).fileno())
        events = list(ring.events(timeout=0))
        second = ifq.receive(filled(kernel, 2 * PAGE).fileno())
        events += ring.events(timeout=0)
        holders = ifq.holders(2)
        assert [holder.request for holder in holders] == [first, second]
        assert len(ifq.holders()) == 3
        assert holders[0].age_ns >= holders[1].age_ns > 0
        assert (holders[0].size_bytes, holders[0].copied) == (PAGE, False)
        assert ifq.stats().held_max_ns >= holders[0].age_ns
        for event in events:
            assert isinstance(event, pyzcrx.Data)
            event.buffer.release()
        assert ifq.holders() == []
        assert sum(ifq.hold_times) == 3


def test_a_request_that_nobody_knows_any_more() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, PAGE)
        sock.finish()
        ifq.receive(sock.fileno())
        buffers = [e.buffer for e in ring.events() if isinstance(e, pyzcrx.Data)]
        ring.wait(0)
        gc.collect()
        (holder,) = ifq.holders()
        assert holder.request is None
        buffers[0].release()


def test_notices_are_counted_once_and_armed_again_in_a_while() -> None:
    armed: list[EventType] = []
    notices = Notices(armed.append)
    notices._complete(EventType.COPY, 0)
    notices._complete(EventType.COPY, 0)  # told again after an interruption
    notices._complete(77, 0)  # of a later kernel
    assert notices.counts == {EventType.ALLOC_FAIL: 0, EventType.COPY: 1}
    notices.settle()
    assert armed == [EventType.COPY]
    notices._armed_ns = time.monotonic_ns() + 3600 * 10**9  # however long the next lines take
    notices._complete(EventType.COPY, 0)
    notices._complete(EventType.ALLOC_FAIL, 0)
    notices.settle()
    assert armed == [EventType.COPY]
    notices._armed_ns = time.monotonic_ns() - REARM_NS
    notices.settle()
    assert sorted(armed) == [EventType.ALLOC_FAIL, EventType.COPY, EventType.COPY]
    assert notices.counts == {EventType.ALLOC_FAIL: 1, EventType.COPY: 2}

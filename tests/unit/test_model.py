"""Everything above the shim against a kernel in memory that keeps the kernel's books.

Whatever the sizes of the queues and the habits of the consumer: every byte
arrives in order, every reference goes back exactly once, nothing is left out.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx.testing import ModelKernel, ModelSocket

# Small areas and consumers that hold much of them are what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@contextmanager
def receiving(
    kernel: ModelKernel, *, pages: int = 64, rq_entries: int = 64
) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    with (
        kernel,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(pages * PAGE) as area,
    ):
        yield ring, ring.register_ifq(area, rq_entries=rq_entries)


def settled(kernel: ModelKernel, ring: pyzcrx.Ring, ifq: pyzcrx.Ifq) -> None:
    """All released: the books of both sides must show it."""
    ring.wait(0).release()
    ifq.flush()
    assert kernel.breaches == []
    assert ifq._core.account.leased == 0
    assert ifq.held_back == 0
    assert kernel.out == 0
    assert sorted(kernel.free) == list(range(kernel.niovs))


def receive_all(
    kernel: ModelKernel, ifq: pyzcrx.Ifq, streams: list[list[bytes]], limit: int | None = None
) -> dict[int, bytearray]:
    """A finished connection for each stream, being received; a place for its bytes, by fd."""
    received = {}
    for stream in streams:
        sock = kernel.socket()
        for segment in stream:
            sock.send(segment)
        sock.finish()
        received[sock.fileno()] = bytearray()
        ifq.receive(sock.fileno(), limit=limit)
    return received


segments = st.lists(st.binary(min_size=1, max_size=3 * PAGE), max_size=8)


@given(
    streams=st.lists(segments, min_size=1, max_size=5),
    cq_entries=st.sampled_from([1, 2, 8, 64]),
    pages=st.sampled_from([1, 3, 16, 64]),
    rq_entries=st.sampled_from([1, 2, 8, 64]),
    takes=st.sampled_from([0, 1, 100]),
    limit=st.one_of(st.none(), st.integers(1, 2 * PAGE)),
    hold=st.integers(0, 40),
)
@example(
    streams=[[b"x"] * 3, [b"x"], [b"x"]],
    cq_entries=1,
    pages=1,
    rq_entries=1,
    takes=0,
    limit=1,
    hold=0,
)  # one that got the last buffer, but no room in the completion queue
def test_events_lose_nothing(
    streams: list[list[bytes]],
    cq_entries: int,
    pages: int,
    rq_entries: int,
    takes: int,
    limit: int | None,
    hold: int,
) -> None:
    kernel = ModelKernel(cq_entries=cq_entries, takes=takes)
    with receiving(kernel, pages=pages, rq_entries=rq_entries) as (ring, ifq):
        received = receive_all(kernel, ifq, streams, limit)
        # A consumer that keeps some buffers for a while, but never all of the area.
        held: list[pyzcrx.Buffer] = []
        open_streams = len(streams)
        for event in ring.events():
            match event:
                case pyzcrx.Data(request=request, buffer=buffer):
                    received[request.fd] += buffer
                    held.append(buffer)
                    while len(held) > min(hold, pages - 1):
                        held.pop(0).release()
                case pyzcrx.Limit(request=request):
                    request.resume(limit)
                case pyzcrx.End():
                    open_streams -= 1
                case other:
                    pytest.fail(f"unexpected {other}")
        assert open_streams == 0
        assert list(received.values()) == [b"".join(stream) for stream in streams]
        for buffer in held:
            buffer.release()
        settled(kernel, ring, ifq)


@given(
    streams=st.lists(segments, min_size=1, max_size=5),
    cq_entries=st.sampled_from([1, 8, 64]),
    pages=st.sampled_from([2, 16, 64]),
    rq_entries=st.sampled_from([1, 8, 64]),
    keep=st.sampled_from([0, 2, 3]),
    forget=st.booleans(),
)
def test_batches_lose_nothing(
    streams: list[list[bytes]],
    cq_entries: int,
    pages: int,
    rq_entries: int,
    keep: int,
    forget: bool,
) -> None:
    kernel = ModelKernel(cq_entries=cq_entries)
    with receiving(kernel, pages=pages, rq_entries=rq_entries) as (ring, ifq):
        received = receive_all(kernel, ifq, streams)
        for batch in ring.batches():
            total = 0
            for run in batch.runs():
                for i in range(run.start, run.stop):
                    total += batch.lengths[i]
                    if keep and i % keep == 0:
                        with batch.buffer(run.request, i) as buffer:
                            received[run.request.fd] += buffer
                        for taken_again in (batch.buffer, batch.view):
                            with pytest.raises(pyzcrx.errors.DoubleRelease):
                                taken_again(run.request, i)
                    else:
                        received[run.request.fd] += batch.view(run.request, i)
            assert total == batch.size_bytes
            if not forget:
                batch.release()
                with pytest.raises(pyzcrx.errors.DoubleRelease):
                    batch.release()
        assert list(received.values()) == [b"".join(stream) for stream in streams]
        settled(kernel, ring, ifq)


def filled(kernel: ModelKernel, size_bytes: int) -> ModelSocket:
    sock = kernel.socket()
    sock.send(bytes(size_bytes))
    return sock


def test_a_consumer_that_keeps_the_whole_area_is_told() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        ifq.receive(filled(kernel, 6 * PAGE).fileno())
        events = list(ring.events())
        assert [type(event) for event in events] == [pyzcrx.Data] * 4 + [pyzcrx.Failed]
        failed = events[-1]
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.AreaExhausted)
        assert ifq.stats().alloc_failures > 0
        assert kernel.breaches == []


def test_a_starved_request_goes_on_when_a_buffer_comes_back() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=2) as (ring, ifq):
        sock = filled(kernel, 3 * PAGE)
        idle = kernel.socket()
        ifq.receive(sock.fileno())
        ifq.receive(idle.fileno())  # in flight, so that waiting is not futile
        first, second = (event for event in ring.events(timeout=0))
        assert isinstance(first, pyzcrx.Data)
        assert list(ring.events(timeout=0)) == []
        first.buffer.release()
        (third,) = ring.events(timeout=0)
        assert isinstance(third, pyzcrx.Data)
        third.buffer.release()
        assert isinstance(second, pyzcrx.Data)
        second.buffer.release()
        settled(kernel, ring, ifq)


def test_leaving_events_early_loses_nothing() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, 10 * PAGE)
        sock.finish()
        ifq.receive(sock.fileno())
        seen = 0
        while True:
            event = next(ring.events(), None)
            if event is None:
                break
            if isinstance(event, pyzcrx.Data):
                seen += len(event.buffer)
                event.buffer.release()
        assert seen == 10 * PAGE
        settled(kernel, ring, ifq)


def test_what_events_left_behind_comes_with_the_next_batch() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, 3 * PAGE)
        ifq.receive(sock.fileno())
        first = next(ring.events())
        batch = ring.wait(0)
        assert len(batch) == 0
        assert [type(event) for event in batch.events] == [pyzcrx.Data, pyzcrx.Data]
        for event in [first, *batch.events]:
            assert isinstance(event, pyzcrx.Data)
            event.buffer.release()
        settled(kernel, ring, ifq)


def test_events_go_on_after_a_batch_took_what_they_had_left() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, 3 * PAGE)
        ifq.receive(sock.fileno())
        events = ring.events(timeout=0)
        seen = [next(events), *ring.wait(0).events]
        sock.send(b"more")
        sock.finish()
        seen += events
        sizes = [len(event.buffer) for event in seen if isinstance(event, pyzcrx.Data)]
        assert sizes == [PAGE, PAGE, PAGE, 4]
        assert [type(event) for event in seen[4:]] == [pyzcrx.End]
        for event in seen[:4]:
            assert isinstance(event, pyzcrx.Data)
            event.buffer.release()
        settled(kernel, ring, ifq)


def test_urgent_data_is_no_clean_end() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, 3)
        sock.finish()
        sock.unread_after_end = 6
        ifq.receive(sock.fileno())
        data, failed = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.UrgentDataLost)
        assert failed.error.unread_bytes == 6
        assert isinstance(data, pyzcrx.Data)


def test_a_reset_is_a_typed_failure_after_the_data() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, 10)
        sock.error = errno.ECONNRESET
        request = ifq.receive(sock.fileno())
        data, failed = ring.events()
        assert isinstance(data, pyzcrx.Data)
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.PeerReset)
        assert request.over
        assert request.received == 10


def test_cancel_while_armed_and_while_parked() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=1) as (ring, ifq):
        parked = ifq.receive(filled(kernel, 3 * PAGE).fileno())
        armed = ifq.receive(kernel.socket().fileno())
        (first,) = ring.events(timeout=0)
        assert isinstance(first, pyzcrx.Data)
        parked.cancel()
        armed.cancel()
        armed.cancel()
        ended = list(ring.events(timeout=0))
        assert {event.request for event in ended} == {parked, armed}
        for event in ended:
            assert isinstance(event, pyzcrx.Failed)
            assert isinstance(event.error, pyzcrx.errors.Cancelled)
        assert ring.in_flight == 0


def test_a_batch_ends_with_the_next_turn() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        old = ring.wait(0)
        (run,) = old.runs()
        ring.wait(0)
        with pytest.raises(pyzcrx.ClosedError, match="next turn"):
            old.view(run.request, 0)
        with pytest.raises(pyzcrx.ClosedError):
            list(old.runs())
        settled(kernel, ring, ifq)


def test_a_completion_outside_the_area_is_caught() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=2) as (_, ifq):
        for off in (2 * PAGE, 1 << 48, PAGE + 1):
            with pytest.raises(pyzcrx.errors.CorruptRing):
                ifq._core.lease(off, PAGE)


def test_resume_needs_a_limit_that_was_reached() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (_, ifq):
        request = ifq.receive(kernel.socket().fileno())
        with pytest.raises(pyzcrx.errors.BadArgument, match="Limit"):
            request.resume(5)


def test_resume_after_a_cancel_that_the_limit_overtook() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        request = ifq.receive(filled(kernel, 2 * PAGE).fileno(), limit=PAGE)
        data, limit = ring.events(timeout=0)
        assert isinstance(data, pyzcrx.Data)
        assert isinstance(limit, pyzcrx.Limit)
        request.resume(PAGE)
        assert not request._stopping
        more, limit = ring.events(timeout=0)
        assert isinstance(more, pyzcrx.Data)
        assert isinstance(limit, pyzcrx.Limit)


def test_another_thread_may_release_what_a_starved_request_waits_for() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=2) as (ring, ifq):
        sock = filled(kernel, 6 * PAGE)
        sock.finish()
        ifq.receive(sock.fileno())
        received = 0
        threads = []
        for event in ring.events():
            assert not isinstance(event, pyzcrx.Failed), event
            if isinstance(event, pyzcrx.Data):
                received += len(event.buffer)
                threads.append(threading.Timer(0.05, event.buffer.release))
                threads[-1].start()
        assert received == 6 * PAGE
        for thread in threads:
            thread.join()
        settled(kernel, ring, ifq)


def test_a_batch_entry_belongs_to_its_request() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        other = ifq.receive(kernel.socket().fileno())
        batch = ring.wait(0)
        for use in (batch.view, batch.buffer):
            with pytest.raises(pyzcrx.errors.BadArgument, match="another request"):
                use(other, 0)
        batch.release()
        settled(kernel, ring, ifq)


def test_a_slow_consumer_does_not_use_up_the_timeout() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = filled(kernel, PAGE)
        ifq.receive(sock.fileno())
        seen = 0
        for event in ring.events(timeout=0.05):
            assert isinstance(event, pyzcrx.Data)
            event.buffer.release()
            seen += 1
            if seen == 1:
                time.sleep(0.1)  # the consumer's own time
                sock.send(b"more")
        assert seen == 2

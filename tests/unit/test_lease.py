"""Spans, accounts and leases: memory that knows who looks at it."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from pyzcrx import Buffer, BufferInUse, Data, Event
from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._lease import Account, Feed, Lease, Queue, Span
from pyzcrx._queue.refill import RefillQueue, region_bytes
from pyzcrx.errors import DoubleRelease

if TYPE_CHECKING:
    from pyzcrx import Request

ALL_ONES = (1 << 64) - 1


@pytest.fixture
def mapping() -> Mapping:
    mapping = Mapping.anonymous(4 * PAGE)
    mapping.view[: 2 * PAGE] = bytes(range(256)) * (2 * PAGE // 256)
    return mapping


def take(account: Account, n: int) -> None:
    """As a run of n completions does."""
    account.take(n)


def lease(account: Account, mapping: Mapping, at: int = 0, length: int = 100) -> Buffer:
    take(account, 1)
    return Buffer(account, mapping.span, at, length, at)


def returned(account: Account) -> list[int]:
    return account.returned()


def test_a_buffer_shows_its_bytes_read_only(mapping: Mapping) -> None:
    buffer = lease(Account(), mapping, at=5, length=3)
    assert bytes(buffer) == bytes([5, 6, 7])
    assert len(buffer) == 3
    assert buffer.view().readonly
    with pytest.raises(TypeError):
        buffer.view()[0] = 1


def test_release_puts_the_offset_into_the_account_once(mapping: Mapping) -> None:
    account = Account()
    buffer = lease(account, mapping, at=PAGE)
    assert (account.leased, account.taken) == (1, 1)
    buffer.release()
    assert returned(account) == [PAGE]
    assert (account.leased, account.given, account.forgotten) == (0, 1, 0)
    with pytest.raises(DoubleRelease, match="released before"):
        buffer.release()
    assert returned(account) == [PAGE]


def test_release_is_refused_while_a_view_lives(mapping: Mapping) -> None:
    account = Account()
    buffer = lease(account, mapping)
    view = buffer.view()
    with pytest.raises(BufferInUse, match="1 views"):
        buffer.release()
    view.release()
    buffer.release()
    assert account.given == 1


def test_release_sees_slices_after_their_view_was_released(mapping: Mapping) -> None:
    buffer = lease(Account(), mapping)
    view = buffer.view()
    part = view[10:20]
    view.release()
    with pytest.raises(BufferInUse):
        buffer.release()
    assert part[0] == 10
    del part
    buffer.release()


def test_release_sees_numpy_arrays_and_their_slices(mapping: Mapping) -> None:
    buffer = lease(Account(), mapping)
    tail = np.frombuffer(buffer.view(), dtype="u1")[50:]
    with pytest.raises(BufferInUse):
        buffer.release()
    assert tail[0] == 50
    del tail
    buffer.release()


@pytest.mark.parametrize(
    "look",
    [
        lambda view: view.cast("I"),
        lambda view: memoryview(view),
        lambda view: view[::2],
        lambda view: memoryview(view.cast("H")[3:7]),
        lambda view: np.asarray(view),
        lambda view: np.asarray(view)[10:].reshape(-1, 2).view("u2"),
        lambda view: np.frombuffer(view, "u1").T[::-1],
        iter,
    ],
)
def test_every_way_to_look_is_read_only_and_seen(
    mapping: Mapping, look: Callable[[memoryview], object]
) -> None:
    buffer = lease(Account(), mapping)
    view = buffer.view()
    seen = look(view)
    if not isinstance(seen, Iterator):
        view.release()
    del view
    with pytest.raises(BufferInUse):
        buffer.release()
    if isinstance(seen, np.ndarray):
        assert not seen.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            seen.flags.writeable = True
    elif isinstance(seen, memoryview):
        assert seen.readonly
    del seen
    gc.collect()
    buffer.release()


def test_a_buffer_that_another_thread_forgets(mapping: Mapping) -> None:
    account = Account()
    held = [lease(account, mapping, at=i) for i in range(100)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert (account.leased, account.buffers, account.forgotten) == (0, 0, 100)
    assert sorted(returned(account)) == list(range(100))


def test_a_released_buffer_gives_no_view(mapping: Mapping) -> None:
    buffer = lease(Account(), mapping)
    buffer.release()
    with pytest.raises(BufferError, match="released"):
        buffer.view()
    assert "released" in repr(buffer)


def test_a_forgotten_buffer_gives_itself_back(mapping: Mapping) -> None:
    account = Account()
    lease(account, mapping, at=2 * PAGE)
    gc.collect()
    assert returned(account) == [2 * PAGE]
    assert (account.leased, account.forgotten) == (0, 1)


def test_a_forgotten_view_keeps_the_lease(mapping: Mapping) -> None:
    account = Account()
    view = lease(account, mapping).view()
    assert account.leased == 1
    assert view[7] == 7
    del view
    assert account.leased == 0


def test_context_manager_releases(mapping: Mapping) -> None:
    account = Account()
    with lease(account, mapping) as buffer:
        assert not buffer.released
    assert account.given == 1
    with lease(account, mapping) as buffer:
        buffer.release()
    assert account.given == 2


def test_memory_outlives_its_mapping(mapping: Mapping) -> None:
    view = mapping.view[:10]
    buffer = lease(Account(), mapping, at=20)
    mapping.close()
    assert bytes(view) == bytes(range(10))
    assert bytes(buffer)[0] == 20


def test_hold_times(mapping: Mapping) -> None:
    account = Account()
    account.now_ns = time.monotonic_ns() - 5_000_000_000
    lease(account, mapping).release()
    assert 5_000_000_000 <= account.held_max_ns < 500_000_000_000
    assert sum(account.histogram) == 1
    assert sum(account.histogram[32:]) == 1


def queue_of(entries: int) -> RefillQueue:
    region = Mapping.anonymous(region_bytes(entries))
    return RefillQueue(region, entries, head=0, tail=4, rqes=64)


def test_settling_says_whether_something_is_left_to_do(mapping: Mapping) -> None:
    account, rq = Account(), queue_of(4)
    account.rq = rq._shared
    buffers = [lease(account, mapping, at=i) for i in range(6)]
    account.act_at, account.most = 3, 6
    assert account.settle()
    account.act_at, account.most = 3, 5
    assert not account.settle()  # too many are out
    for buffer in buffers[:2]:
        buffer.release()
    account.act_at, account.most = 3, 6
    assert account.settle()
    assert rq.pending == 2
    buffers[2].release()
    account.act_at, account.most = 3, 6
    assert not account.settle()  # so many wait in the refill queue
    for buffer in buffers[3:]:
        buffer.release()
    account.act_at, account.most = 9, 6
    assert not account.settle()  # two found no room
    assert (rq.pending, account.count) == (4, 2)
    account.copy_above = 0
    copy = lease(account, mapping)
    ffi.cast("uint32_t *", rq._mapping.address)[0] = rq.tail
    account.act_at, account.most = 9, 6
    assert not account.settle()  # a copy is out
    copy.release()
    account.act_at, account.most = 9, 6
    assert account.settle()


def test_returned_offsets_leave_in_order_while_others_come(mapping: Mapping) -> None:
    account = Account()
    region = Mapping.anonymous(region_bytes(64))
    rq = RefillQueue(region, 64, head=0, tail=4, rqes=64)
    account.rq = rq._shared
    head = ffi.cast("uint32_t *", region.address)
    expected: list[int] = []
    for _ in range(50):
        for i in range(37):
            lease(account, mapping, at=i).release()
            expected.append(i)
        pushed = account.push()
        assert pushed == min(len(expected), 64)
        at = head[0]
        assert [rq.view[(at + i) % 64, 0] for i in range(pushed)] == expected[:pushed]
        del expected[:pushed]
        assert returned(account) == expected
        assert account.push() == pushed  # they wait, and no more fit
        head[0] = rq.tail


def test_without_a_refill_queue_what_comes_back_waits(mapping: Mapping) -> None:
    account = Account()
    lease(account, mapping, at=7).release()
    assert account.push() == 0
    assert (returned(account), account.pushed) == ([7], 0)
    with pytest.raises(TypeError):
        account.rq = "nowhere"  # type: ignore[assignment]


def test_releases_of_other_threads_while_the_owner_pushes(mapping: Mapping) -> None:
    account = Account()
    region = Mapping.anonymous(region_bytes(8))
    rq = RefillQueue(region, 8, head=0, tail=4, rqes=64)
    account.rq = rq._shared
    head = ffi.cast("uint32_t *", region.address)
    n = 20_000
    take(account, n)
    buffers = [Buffer(account, mapping.span, 0, 1, off) for off in range(n)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        half = len(buffers) // 2
        threads = [
            threading.Thread(target=lambda part: [b.release() for b in part], args=(part,))
            for part in (buffers[:half], buffers[half:])
        ]
        for thread in threads:
            thread.start()
        seen: list[int] = []
        while len(seen) < n:
            pushed = account.push()
            at = head[0]
            seen += [rq.view[(at + i) % 8, 0] for i in range(pushed)]
            head[0] = rq.tail
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(seen) == list(range(n))


def test_bad_spans() -> None:
    whole = Span(bytearray(10))
    for at, length in ((0, 11), (11, 0), (11, -1), (-1, 1), (1, -2), (5, 6), (0, 1 << 62)):
        with pytest.raises(ValueError, match="10 bytes"):
            Span(whole, at, length)
        with pytest.raises(ValueError, match="10 bytes"):
            Lease(Account(), whole, at, length, 0)
    for memory in (0, 4096, None, "text"):
        with pytest.raises(TypeError):
            Span(memory)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Lease(None, None, 1, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="writable"):
        Lease(Account(), Span(b"constant"), 0, 1, 0)
    with pytest.raises(BufferError):
        Span(memoryview(b"0123456789")[::2])


def test_a_span_keeps_the_memory_that_it_is_made_of() -> None:
    memory = bytearray(b"0123456789")
    part = Span(Span(memory, 2), 3, 4, True)
    with pytest.raises(BufferError):
        memory.clear()
    assert (bytes(part), memoryview(part).readonly) == (b"5678", True)
    del part
    memory.clear()


def test_a_span_in_a_lease_is_a_view_of_it(mapping: Mapping) -> None:
    buffer = lease(Account(), mapping)
    part = Span(buffer, 1)
    with pytest.raises(BufferInUse):
        buffer.release()
    del part
    buffer.release()


# -- events, and how they are handed on --------------------------------------


def data(account: Account, mapping: Mapping) -> Data[Request, Lease]:
    return Data(cast("Request", object()), lease(account, mapping))


def test_data_is_what_a_dataclass_would_be(mapping: Mapping) -> None:
    one = data(Account(), mapping)
    same = Data(request=one.request, buffer=one.buffer)
    assert one == same
    assert one != Data(one.request, lease(Account(), mapping))
    assert one != cast("object", 5)
    assert repr(one) == f"Data(request={one.request!r}, buffer={one.buffer!r})"
    assert type(one).__module__ == "pyzcrx._receive.events"
    with pytest.raises(TypeError):
        hash(one)
    with pytest.raises(TypeError):
        Data(one.request)  # type: ignore[call-arg]
    match one:
        case Data(request, buffer):
            assert request is one.request
            assert buffer is one.buffer
    other = one.request, lease(Account(), mapping)
    one.request, one.buffer = other
    assert (one.request, one.buffer) == other


def test_a_cycle_through_data_gives_its_buffer_back(mapping: Mapping) -> None:
    account = Account()
    holder: list[object] = []
    holder.append(Data(cast("Request", holder), lease(account, mapping)))
    assert gc.is_tracked(holder[0])
    del holder
    gc.collect()
    assert (account.leased, account.forgotten) == (0, 1)


def test_a_queue_keeps_the_order_whatever_is_taken_between(mapping: Mapping) -> None:
    queue, account = Queue(), Account()
    given: list[Event] = []
    taken: list[Event] = []
    feed = Feed(queue, lambda: False)
    for n in (1, 3, 100, 0, 200, 7):
        events: list[Any] = [data(account, mapping) for _ in range(n)]
        given += events
        queue += events
        assert len(queue) == len(given) - len(taken)
        taken += [next(feed) for _ in range(min(n // 2 + 1, len(queue)))]
        assert list(queue) == given[len(taken) :]
    assert [*taken, *feed] == given
    assert not queue
    with pytest.raises(TypeError):
        queue += tuple(given)  # type: ignore[arg-type]


def test_a_feed_asks_for_more_until_there_is_none(mapping: Mapping) -> None:
    queue, account = Queue(), Account()
    rounds = [2, 0, 1]
    asked = 0

    def more() -> bool:
        nonlocal queue, asked
        asked += 1
        if not rounds:
            return False
        queue += [data(account, mapping) for _ in range(rounds.pop(0))]
        return True

    feed = Feed(queue, more)
    assert iter(feed) is feed
    assert len(list(feed)) == 3
    assert asked == 4
    queue += [data(account, mapping)]
    assert list(feed) == []  # its end is for good
    assert asked == 4
    assert len(list(Feed(queue, more))) == 1


def test_what_a_feed_cannot_find_is_told_and_it_goes_on(mapping: Mapping) -> None:
    queue = Queue()

    def more() -> bool:
        raise KeyError("interrupted")

    feed = Feed(queue, more)
    with pytest.raises(KeyError):
        next(feed)
    queue += [data(Account(), mapping)]
    assert isinstance(next(feed), Data)


def test_a_queue_lets_go_of_what_it_holds(mapping: Mapping) -> None:
    queue, account = Queue(), Account()
    queue += [data(account, mapping) for _ in range(5)]
    next(Feed(queue, lambda: False))
    assert account.forgotten == 1
    queue.clear()
    assert (len(queue), account.forgotten) == (0, 5)
    queue += [data(account, mapping)]
    cycle = data(account, mapping)
    cycle.request = cast("Request", queue)
    queue += [cycle]
    del queue, cycle
    gc.collect()
    assert account.leased == 0


def test_a_released_event_takes_no_reference_with_it(mapping: Mapping) -> None:
    event = data(Account(), mapping)
    before = sys.getrefcount(event), sys.getrefcount(Data)
    queue = Queue()
    queue += [event]
    assert next(Feed(queue, lambda: False)) is event
    assert (sys.getrefcount(event), sys.getrefcount(Data)) == before


def test_a_refused_release_is_told_by_a_subclass(mapping: Mapping) -> None:
    account = Account()
    take(account, 1)
    bare = Lease(account, mapping.span, 0, 10, 0)
    bare.release()
    with pytest.raises(AttributeError, match="refused"):
        bare.release()

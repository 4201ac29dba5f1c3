"""What a turn brought, handed on a piece at a time: leaving the loop between two loses nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx._lease import Inbox
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.events import Event
from pyzcrx._ring.columns import FRESH
from pyzcrx._ring.core import RingCore
from tests.perf.replay import Replay

PER_TURN = 200
"""Buffers of a turn: several pieces (csrc/feed.c)."""
ALL = 2 * PER_TURN - 3


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay(per_turn=PER_TURN, turns=2, connections=3) as made:
        yield made


def offs(events: list[Event]) -> list[int]:
    return [event.buffer.off for event in events if isinstance(event, pyzcrx.Data)]


def test_events_are_made_a_piece_at_a_time(replay: Replay) -> None:
    """A thousand at once would have the garbage collector look at all of them."""
    replay.fill()
    feed = replay.ring.events()
    first = next(feed)
    held = sum(isinstance(each, pyzcrx.Data) for each in gc.get_objects())
    assert held < PER_TURN / 2
    assert replay.ifq.audit().in_batch > PER_TURN / 2
    assert offs([first, *feed]) == replay.offs
    assert replay.ring._core.columns.counts[FRESH] == 0


@pytest.mark.parametrize("taken", [1, 31, 32, 33, 64, PER_TURN - 1, PER_TURN, PER_TURN + 1])
def test_a_loop_that_is_left_goes_on_in_another(replay: Replay, taken: int) -> None:
    replay.fill()
    events: list[Event] = []
    for event in replay.ring.events():
        events.append(event)
        if len(events) == taken:
            break
    audit = replay.ifq.audit()
    assert audit.in_batch + audit.in_buffers == audit.taken >= taken
    events += replay.ring.events()
    assert offs(events) == replay.offs
    assert sum(isinstance(event, pyzcrx.Limit) for event in events) == 3
    del events, event
    replay.ifq.audit()
    replay.take_refill()


@pytest.mark.parametrize("taken", [1, 32, 33, PER_TURN])
def test_the_rest_comes_as_the_events_of_a_batch(replay: Replay, taken: int) -> None:
    replay.fill()
    feed = replay.ring.events()
    events = [next(feed) for _ in range(taken)]
    batch = replay.ring.wait(0)
    rest = [*batch.events]
    batch.release()
    if taken < PER_TURN:
        assert len(batch) == 0
        assert offs(events + rest) == replay.offs[:PER_TURN]
        assert list(feed)
    else:
        assert len(batch) == ALL - PER_TURN
    assert replay.ifq.total_bytes == replay.size_bytes
    del events, rest
    batch.events = []
    audit = replay.ifq.audit()
    assert (audit.in_batch, audit.in_buffers) == (0, 0)


def test_ends_come_behind_the_data_of_their_turn(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without a turn in Python: of many connections nearly each end has a turn of its own."""
    in_python: list[str] = []

    def turn(_core: RingCore, _timeout_ns: int, *, taken: bool = False) -> None:
        in_python.append(f"taken={taken}")

    monkeypatch.setattr(RingCore, "turn", turn)
    replay.fill()
    feed = replay.ring.events()
    events = [next(feed) for _ in range(ALL + 3)]
    assert offs(events[:ALL]) == replay.offs
    assert [event.request for event in events[ALL:]] == replay.requests
    assert all(isinstance(event, pyzcrx.Limit) for event in events[ALL:])
    assert not in_python


@pytest.mark.parametrize("taken", [1, 32, 33, PER_TURN - 4, PER_TURN - 3, PER_TURN - 2])
def test_ends_stay_behind_the_data_of_a_loop_that_is_left(replay: Replay, taken: int) -> None:
    """Their requests are over once the turn came; nobody is told of that before he has the data."""
    replay.fill()
    feed = replay.ring.events()
    events = [next(feed) for _ in range(PER_TURN + taken)]
    assert all(request.over for request in replay.requests)
    batch = replay.ring.wait(0)
    events += batch.events
    batch.release()
    events += feed
    assert offs(events[:ALL]) == replay.offs
    assert [type(event) for event in events[ALL:]] == [pyzcrx.Limit] * 3
    del events, batch
    replay.ifq.audit()
    replay.take_refill()


def test_a_deadline_takes_what_a_loop_left(replay: Replay) -> None:
    replay.fill()
    first = next(replay.ring.events())
    assert replay.ring._delivery.waiting
    assert offs([first, *replay.ring.events(timeout=0)]) == replay.offs


def test_buffers_that_go_back_between_pieces_count_once(replay: Replay) -> None:
    for _ in range(2):
        replay.fill()
        n = 0
        for event in replay.ring.events():
            if isinstance(event, pyzcrx.Data):
                event.buffer.release()
                n += 1
        assert n == ALL
        audit = replay.ifq.audit()
        assert audit.forgotten == audit.in_batch == audit.in_buffers == 0
        replay.take_refill()
    assert replay.ifq.audit().taken == 2 * ALL


def test_a_closed_ring_hands_nothing_on(replay: Replay) -> None:
    replay.fill()
    feed = replay.ring.events()
    data = next(feed)
    assert isinstance(data, pyzcrx.Data)
    replay.ring.close()
    with pytest.raises(pyzcrx.ClosedError):
        next(feed)
    assert len(bytes(data.buffer.view())) == len(data.buffer)


def test_events_are_used_again_but_never_one_that_lives(replay: Replay) -> None:
    replay.fill()
    kept: list[Event] = []
    for i, event in enumerate(replay.ring.events()):
        if i % 7 == 0:
            kept.append(event)
    assert offs(kept) == replay.offs[:ALL:7]
    assert len({id(event) for event in kept}) == len(kept)
    assert all(event.request in replay.requests for event in kept)


def test_events_in_a_circle_are_found(replay: Replay) -> None:
    """One that was used again is still the garbage collector's to find."""
    for _ in range(2):
        replay.fill()
        for event in replay.ring.events():
            if isinstance(event, pyzcrx.Data):
                event.request.context = event
        del event
        for request in replay.requests:
            request.context = None
        gc.collect()
        audit = replay.ifq.audit()
        assert audit.in_buffers == 0
        replay.take_refill()


def test_streams_that_end_count_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream's end takes Python: it must not look at what all others have."""
    counted = 0
    buffers = vars(Inbox)["buffers"]

    def count(chunks: Chunks) -> int:
        nonlocal counted
        counted += 1
        return int(buffers.__get__(chunks))

    monkeypatch.setattr(Chunks, "buffers", property(count))
    with Replay(per_turn=64, turns=4, connections=16) as replay:
        replay.fill()
        left = replay.size_bytes
        with replay.streams() as streams:
            feeds = [iter(stream) for stream in streams]
            while left:
                for feed in feeds:
                    chunk = next(feed)
                    left -= len(chunk)
                    chunk.release()
    assert counted == 0

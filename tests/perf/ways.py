"""What a received buffer costs on this machine's own CPU, over replayed ring contents.

In slices of a memoryview, measured in the same process and in turns with it. A way is
called for one fill of the completion queue; filling is not measured. Times are of the
thread's CPU, so that who shares the machine counts for less.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyzcrx._receive.events import Data
from pyzcrx.bench.plan import BenchError
from pyzcrx.uapi import OFFSET_MASK
from tests.perf.replay import MOST, Replay

PER_TURN = (64, 256, 1024, 4096)
"""Buffers that a turn brings; under load a turn gathers up to 1,024 (:mod:`pyzcrx._ring.pace`)."""

UNIT = "slice"


@dataclass(frozen=True)
class Work:
    """One fill to be received; *places* are the bounds of its buffers in *memory*."""

    replay: Replay
    memory: memoryview
    places: list[tuple[int, int]]

    @classmethod
    def of(cls, replay: Replay) -> Work:
        places = [
            (off, off + length) for off, length in zip(replay.offs, replay.lengths, strict=True)
        ]
        return cls(replay, replay.area.view, places)


def slices(work: Work) -> None:
    """The unit: a slice of a memoryview, its bounds at hand"""
    memory = work.memory
    for at, end in work.places:
        memory[at:end]


def columns(work: Work) -> None:
    """ring.batches(): drained and released"""
    for batch in work.replay.ring.batches():
        batch.release()


def columns_sliced(work: Work) -> None:
    """the same, and a slice by each off and length"""
    memory = work.memory
    for batch in work.replay.ring.batches():
        for off, length in zip(batch.offs, batch.lengths, strict=True):
            at = off & OFFSET_MASK
            memory[at : at + length]
        batch.release()


def batch_views(work: Work) -> None:
    """the same, and batch.view() of each"""
    for batch in work.replay.ring.batches():
        for request, start, stop, *_ in batch.runs():
            for i in range(start, stop):
                batch.view(request, i)
        batch.release()


def run_views(work: Work) -> None:
    """the same by run.views(), as in the docs"""
    for batch in work.replay.ring.batches():
        for run in batch.runs():
            run.views()
        batch.release()


def events(work: Work) -> None:
    """ring.events(): a Buffer each, released unseen"""
    for event in work.replay.ring.events():
        if isinstance(event, Data):
            event.buffer.release()


def buffers(work: Work) -> None:
    """ring.events(): a Buffer each, buffer.view(), released"""
    for event in work.replay.ring.events():
        if isinstance(event, Data):
            buffer = event.buffer
            buffer.view()
            buffer.release()


def buffers_matched(work: Work) -> None:
    """the same by match, as in the README"""
    for event in work.replay.ring.events():
        match event:
            case Data(buffer=buffer):
                buffer.view()
                buffer.release()


def chunks(work: Work) -> None:
    """for chunk in stream: what a turn brought, released unseen"""
    left = work.replay.size_bytes
    with work.replay.streams() as streams:
        feeds = [iter(stream) for stream in streams]
        while left:
            for feed in feeds:
                chunk = next(feed)
                left -= len(chunk)
                chunk.release()


WAYS: dict[str, Callable[[Work], None]] = {
    UNIT: slices,
    "columns": columns,
    "columns-sliced": columns_sliced,
    "batch-view": batch_views,
    "run-views": run_views,
    "events": events,
    "buffers": buffers,
    "buffers-matched": buffers_matched,
    "chunks": chunks,
}
GOALS = {"columns": 0.1, "buffers": 6.0}
"""At most so many slices."""


def receive(work: Work, name: str, measure: Callable[[Callable[[], None]], int]) -> int:
    """One fill by the way *name*, as *measure* sees it; all of it must arrive and come back."""
    replay, way = work.replay, WAYS[name]
    if name == UNIT:
        return measure(lambda: way(work))
    before = replay.ifq.total_bytes
    replay.fill()
    measured = measure(lambda: way(work))
    if replay.ifq.total_bytes - before != replay.size_bytes:
        raise BenchError(
            f"{name} received {replay.ifq.total_bytes - before} of {replay.size_bytes} bytes"
        )
    replay.take_refill()
    return measured


def time_ns(function: Callable[[], None]) -> int:
    """Nanoseconds of this thread's CPU."""
    start = time.thread_time_ns()
    function()
    return time.thread_time_ns() - start


@dataclass(frozen=True)
class Cost:
    """Of one way: nanoseconds a buffer, and slices a buffer, round by round."""

    ns: list[float]
    slices: list[float]

    def as_dict(self) -> dict[str, float]:
        return {
            "ns": statistics.median(self.ns),
            "ns_least": min(self.ns),
            "slices": statistics.median(self.slices),
            "slices_of_leasts": min(self.ns)
            / min(ns / ratio for ns, ratio in zip(self.ns, self.slices, strict=True)),
        }


def _rounds(work: Work, rounds: int) -> Iterator[dict[str, float]]:
    """Nanoseconds a buffer, by way; the first round warms up and is dropped."""
    for i in range(rounds + 1):
        took = {name: receive(work, name, time_ns) for name in WAYS}
        gc.collect()
        if i:
            yield {name: ns / work.replay.buffers for name, ns in took.items()}


def time_all(
    per_turn: int,
    rounds: int,
    lengths: Sequence[int],
    connections: int,
    tell: Callable[[], None],
) -> dict[str, Cost]:
    """Every way in turn, round by round; *tell* is called after each round."""
    costs = {name: Cost([], []) for name in WAYS}
    with replay_of(per_turn, lengths, connections) as replay:
        for took in _rounds(Work.of(replay), rounds):
            for name, cost in costs.items():
                cost.ns.append(took[name])
                cost.slices.append(took[name] / took[UNIT])
            tell()
        replay.ifq.audit()
    return costs


def replay_of(per_turn: int, lengths: Sequence[int], connections: int = 1) -> Replay:
    """As large as it can be in turns of so many, as its begin and end are no buffer's cost."""
    return Replay(
        per_turn=per_turn, turns=MOST // per_turn, lengths=lengths, connections=connections
    )


def described() -> Iterable[tuple[str, str]]:
    """The ways, and what they do."""
    return ((name, way.__doc__ or "") for name, way in WAYS.items())

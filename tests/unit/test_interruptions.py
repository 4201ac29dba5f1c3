"""A signal handler that raises, wherever Python may run it: nothing is lost, or told twice.

CPython runs handlers when a function begins and when a call of C returns. Both are where
a profile function is called, and it may raise there: so every single place is tried.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.memory import PAGE
from pyzcrx._receive.reading import Reading
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving, settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")

FOLDER = pyzcrx.__file__.rsplit("/", 1)[0]
STREAMS = [[b"a" * PAGE, b"b" * (2 * PAGE)], [b"c" * 100, b"d" * PAGE, b"e"]]


class Interrupted(BaseException):
    """As KeyboardInterrupt, but ours."""


class Interrupt:
    """Raises at the *nth* place in the package where a handler could run."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        name = frame.f_code.co_filename
        if event not in ("call", "c_return") or not name.startswith(FOLDER):
            return
        if not self.is_place(frame.f_code):
            return
        self.left -= 1
        if not self.left:
            sys.setprofile(None)
            self.strike()

    def is_place(self, code: CodeType) -> bool:
        return "/testing/" not in code.co_filename and code.co_name != "__del__"

    def strike(self) -> None:
        raise Interrupted

    def __enter__(self) -> None:
        sys.setprofile(self)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class Signal(Interrupt):
    """Strikes within a turn of the kernel in memory; where no handler may run, it waits."""

    def is_place(self, code: CodeType) -> bool:
        return Path(code.co_filename).stem in ("rings", "completions", "requests", "pool")

    def strike(self) -> None:
        signal.raise_signal(signal.SIGUSR1)


@contextmanager
def raising_handler() -> Iterator[None]:
    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def take_event(event: pyzcrx.Event, received: dict[int, bytearray]) -> bool:
    """Whether it was an end."""
    match event:
        case pyzcrx.Data(request=request, buffer=buffer):
            received[request.fd] += buffer
            buffer.release()
        case pyzcrx.End():
            return True
        case other:
            pytest.fail(f"unexpected {other}")
    return False


def by_events(ring: pyzcrx.Ring, received: dict[int, bytearray], timeout: float | None = 0) -> int:
    """Ends seen."""
    ends = 0
    iterator = None
    while True:
        try:
            iterator = iterator or ring.events(timeout)
            event = next(iterator)
        except StopIteration:
            return ends
        except Interrupted:
            iterator = None
            continue
        left = sys.getprofile()
        sys.setprofile(None)  # the consumer's own code is its own business
        ends += take_event(event, received)
        sys.setprofile(left)


def by_batches(ring: pyzcrx.Ring, received: dict[int, bytearray], timeout: float | None = 0) -> int:
    ends = 0
    iterator = None
    while True:
        try:
            iterator = iterator or ring.batches(timeout)
            batch = next(iterator)
        except StopIteration:
            return ends
        except Interrupted:
            iterator = None
            continue
        left = sys.getprofile()
        sys.setprofile(None)
        for run in batch.runs():
            for i in range(run.start, run.stop):
                received[run.request.fd] += batch.view(run.request, i)
        for event in batch.events:
            ends += take_event(event, received)
        sys.setprofile(left)


def by_quiet_events(ring: pyzcrx.Ring, received: dict[int, bytearray]) -> int:
    """The same without a timeout: turns that bring only data do not go through Python."""
    return by_events(ring, received, None)


def by_quiet_batches(ring: pyzcrx.Ring, received: dict[int, bytearray]) -> int:
    """As :func:`by_quiet_events`."""
    return by_batches(ring, received, None)


@pytest.mark.parametrize("receive", [by_events, by_quiet_events, by_batches, by_quiet_batches])
@pytest.mark.parametrize("cq_entries", [64, 2])
def test_nothing_is_lost_wherever_it_strikes(receive: Any, cq_entries: int) -> None:
    everywhere(receive, cq_entries, Interrupt)


@pytest.mark.parametrize("receive", [by_events, by_quiet_events, by_batches, by_quiet_batches])
def test_nothing_is_lost_where_it_strikes_in_the_kernel_in_memory(receive: Any) -> None:
    with raising_handler():
        everywhere(receive, 64, Signal)


def everywhere(receive: Any, cq_entries: int, kind: type[Interrupt]) -> None:
    nth = 0
    struck = True
    while struck:
        nth += 1
        kernel = ModelKernel(cq_entries=cq_entries)
        with receiving(kernel, pages=4, rq_entries=4) as (ring, ifq):
            received: dict[int, bytearray] = {}
            for stream in STREAMS:
                sock = kernel.socket()
                for segment in stream:
                    sock.send(segment)
                sock.finish()
                received[sock.fileno()] = bytearray()
                ifq.receive(sock.fileno())
            interrupt = kind(nth)
            with interrupt:
                ends = receive(ring, received)
            struck = interrupt.left <= 0
            for _ in range(100):
                ends += receive(ring, received)
            assert not ring.in_flight, nth
            assert list(received.values()) == [b"".join(stream) for stream in STREAMS], nth
            assert ends == len(STREAMS), nth
            ifq.audit()
            settled(kernel, ring, ifq)
    assert nth > 100


def read(ring: pyzcrx.Ring, readings: list[Reading], received: list[bytearray]) -> None:
    """A turn as an event loop takes it, and what those do that it notifies."""
    changed = ring._delivery.inboxes.changed
    assert changed is not None
    try:
        ring._delivery.collect(0)
        for reading in readings:
            if not (reading.chunks.at_end or reading.chunks.ended):
                reading.go_on()
        while changed:
            chunks = changed[0]._inbox
            assert chunks is not None
            while chunks.has_bytes:
                data = chunks.read_some(3000)
                received[[reading.chunks for reading in readings].index(chunks)] += data
            del changed[0]
    except Interrupted:
        pass


@pytest.mark.parametrize("kind", [Interrupt, Signal])
def test_no_inbox_loses_anything_and_its_reader_is_notified(kind: type[Interrupt]) -> None:
    nth = 0
    struck = True
    while struck:
        nth += 1
        kernel = ModelKernel()
        with receiving(kernel, pages=32) as (ring, ifq), raising_handler():
            ring._delivery.inboxes.changed = []
            readings = []
            for stream in STREAMS:
                sock = kernel.socket()
                readings.append(ifq._reading(sock.fileno(), None))
                for segment in stream:
                    sock.send(segment)
                sock.finish()
            received = [bytearray() for _ in STREAMS]
            interrupt = kind(nth)
            with interrupt:
                for _ in range(6):
                    read(ring, readings, received)
            struck = interrupt.left <= 0
            for _ in range(20):
                read(ring, readings, received)
            assert received == [b"".join(stream) for stream in STREAMS], nth
            for reading in readings:
                assert reading.chunks.at_end, nth
                reading.leave()
            ifq.audit()
            settled(kernel, ring, ifq)
    assert nth > (100 if kind is Interrupt else 5)


@pytest.mark.parametrize("how", ["batches", "events", "wait"])
def test_what_the_kernel_in_memory_raises_comes_through(how: str) -> None:
    """As a signal handler does that strikes in there."""
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = kernel.socket()
        ifq.receive(sock.fileno())
        sock.send(b"x")

        def strike(*_: object) -> int:
            lib.replace(before)
            raise Interrupted

        before = lib.replace({"pz_ring_turn": strike})
        take: Callable[[], int] = {
            "batches": lambda: next(ring.batches()).size_bytes,
            "events": lambda: len(next(ring.events()).buffer),  # type: ignore[union-attr]
            "wait": lambda: ring.wait().size_bytes,
        }[how]
        with pytest.raises(Interrupted):
            take()
        assert take() == 1


@pytest.mark.parametrize("take", [pyzcrx.Ring.batches, pyzcrx.Ring.events])
def test_a_signal_ends_no_wait_and_its_handler_runs(take: Callable[[Any], Iterator[Any]]) -> None:
    """While turns are quiet no Python runs, so C asks for handlers itself."""
    struck: list[int] = []

    def handler(*_: object) -> None:
        struck.append(1)
        if len(struck) == 2:
            raise Interrupted

    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = kernel.socket()
        ifq.receive(sock.fileno())
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            with pytest.raises(Interrupted):
                next(take(ring))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        sock.send(b"after")
        brought = next(take(ring))
        assert brought.size_bytes == 5 if take is pyzcrx.Ring.batches else len(brought.buffer) == 5

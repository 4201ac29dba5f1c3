"""A signal handler that raises, wherever Python may run it: nothing is lost, or told twice.

CPython runs handlers when a function begins and when a call of C returns. Both are where
a profile function is called, and it may raise there: so every single place is tried.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel.memory import PAGE
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
        if "/testing/" in name or frame.f_code.co_name == "__del__":
            return
        self.left -= 1
        if not self.left:
            sys.setprofile(None)
            raise Interrupted

    def __enter__(self) -> None:
        sys.setprofile(self)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


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


def by_events(ring: pyzcrx.Ring, received: dict[int, bytearray]) -> int:
    """Ends seen."""
    ends = 0
    iterator = None
    while True:
        try:
            iterator = iterator or ring.events(timeout=0)
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


def by_batches(ring: pyzcrx.Ring, received: dict[int, bytearray]) -> int:
    ends = 0
    iterator = None
    while True:
        try:
            iterator = iterator or ring.batches(timeout=0)
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


@pytest.mark.parametrize("receive", [by_events, by_batches])
@pytest.mark.parametrize("cq_entries", [64, 2])
def test_nothing_is_lost_wherever_it_strikes(receive: Any, cq_entries: int) -> None:
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
            interrupt = Interrupt(nth)
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

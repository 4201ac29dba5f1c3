"""How ``with`` blocks end: the error in flight is the one that is seen, for every class of ours."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import pyzcrx
from pyzcrx import _lease
from pyzcrx._common.leaving import Closing, LettingGo
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.chunk import Chunk
from pyzcrx.errors import ClosedError, LeakWarning
from pyzcrx.testing import ModelKernel
from tests.unit.test_debug import buffers, debugged
from tests.unit.test_model import filled

ELSEWHERE = {
    Closing,  # what most are of
    LettingGo,  # never raises
    Buffer,  # never raises: test_views.py
    Chunk,  # never raises: test_stream.py
    _lease.Chunk,  # what that is of
    ModelKernel,  # puts the shim back, which cannot fail
}


ELSEWHERE_MODULES = {"pyzcrx.nic.setup"}  # tests/unit/nic


def classes() -> Iterator[type]:
    """All of the package's that define how a block ends."""
    for found in pkgutil.walk_packages(pyzcrx.__path__, "pyzcrx."):
        if found.name.endswith("__main__") or found.name in ELSEWHERE_MODULES:
            continue
        for value in vars(importlib.import_module(found.name)).values():
            mine = isinstance(value, type) and value.__module__ == found.name
            if mine and any(
                "__exit__" in vars(base)
                for base in value.__mro__
                if base.__module__.startswith("pyzcrx.")
            ):
                yield value


CLASSES = [k for k in classes() if k not in ELSEWHERE and not issubclass(k, LettingGo)]


def test_the_classes_are_found() -> None:
    assert {pyzcrx.Ring, pyzcrx.Area, *ELSEWHERE} <= {*CLASSES, *ELSEWHERE}
    assert len(CLASSES) > 5


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__qualname__)
def broken(request: pytest.FixtureRequest) -> Any:
    """An object whose close() fails; never made, so that there is nothing to close."""

    def close(_: object) -> None:
        raise ClosedError("it would not close")

    kind: Any = type("Broken", (request.param,), {"close": close, "__del__": lambda _: None})
    return kind.__new__(kind)


def test_the_error_in_flight_is_seen_not_that_of_closing(broken: Any) -> None:
    error = ValueError("not json")
    assert not broken.__exit__(ValueError, error, None)
    assert error.__notes__ == ["then closing failed: ClosedError: it would not close"]


def test_without_one_what_closing_failed_with_is_raised(broken: Any) -> None:
    with pytest.raises(ClosedError, match="would not close"):
        broken.__exit__(None, None, None)


def test_a_ring_and_its_area_with_views_alive_let_an_error_through() -> None:
    kernel = ModelKernel()
    views: list[memoryview] = []

    def fail() -> None:
        with kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 16) as area:
            ring.register_ifq(area).receive(filled(kernel, 10).fileno())
            (buffer,) = buffers(ring)
            with buffer:
                views.append(buffer.view())
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        fail()
    assert not hasattr(caught.value, "__notes__")
    assert caught.value.__context__ is None
    assert bytes(views[0]) == bytes(10)


@pytest.mark.filterwarnings("error::pyzcrx.errors.LeakWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("as_events", [True, False])
def test_a_warning_made_an_error_leaves_no_ring_open(as_events: bool) -> None:
    kernel = ModelKernel()
    rings: list[pyzcrx.Ring] = []
    held: list[object] = []

    def leak() -> None:
        with debugged(kernel) as (ring, ifq):
            rings.append(ring)
            request = ifq.receive(filled(kernel, 10).fileno())
            held.append(buffers(ring) if as_events else ring.wait(0).view(request, 0))

    with pytest.raises(LeakWarning):
        leak()
    assert rings[0].closed

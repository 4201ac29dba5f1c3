"""What a batch shows of its turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pyzcrx._lease import Runs
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.request import Request
from pyzcrx.errors import BadArgument, ClosedError, CorruptRing, DoubleRelease
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving

Given = tuple[Batch, Request, Request]


@pytest.fixture
def given() -> Iterator[Given]:
    """A batch of two entries of one request and one of another."""
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        socks = [kernel.socket() for _ in range(2)]
        for sock, segments in zip(socks, ((b"one", b"two"), (b"three",)), strict=True):
            for segment in segments:
                sock.send(segment)
        a, b = (ifq.receive(sock.fileno()) for sock in socks)
        yield ring.wait(), a, b


def test_each_run_is_its_requests(given: Given) -> None:
    batch, a, b = given
    runs = list(batch.runs())
    assert [tuple(run) for run in runs] == [(a, 0, 2, 6, batch), (b, 2, 3, 5, batch)]
    assert [run.views() for run in runs] == [[b"one", b"two"], [b"three"]]
    assert all(type(run).__name__ == "Run" for run in runs)
    [first, *_] = batch.runs()
    assert first.request is a
    assert [len(each) for each in first.buffers()] == [3, 3]


def test_runs_end_with_their_batch(given: Given) -> None:
    batch, a, _ = given
    runs = batch.runs()
    assert next(runs).request is a
    batch.release()
    for _ in range(2):
        with pytest.raises(ClosedError, match="the batch was released"):
            next(runs)


def test_runs_are_of_a_batch_and_tuples(given: Given) -> None:
    batch, *_ = given
    wrong: list[tuple[Any, ...]] = [
        (object(), tuple, ()),
        (batch, int, ()),
        (batch, tuple, []),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError):
            Runs(*arguments)
    assert list(Runs(batch, tuple, ())) == []


def test_a_view_is_of_an_entry_of_its_request(given: Given) -> None:
    batch, a, b = given
    assert [batch.view(a, 0), batch.view(a, 1), batch.view(b, 2)] == [b"one", b"two", b"three"]
    assert batch.view(a, 0).readonly


@pytest.mark.parametrize(
    ("i", "error"),
    [
        (2, BadArgument),
        (3, IndexError),
        (-1, IndexError),
        (1 << 70, IndexError),
        (None, TypeError),
        ("0", TypeError),
    ],
)
def test_no_view_of_another_entry(given: Given, i: Any, error: type[Exception]) -> None:
    batch, a, _ = given
    with pytest.raises(error):
        batch.view(a, i)


def test_no_view_by_other_arguments(given: Given) -> None:
    batch, a, b = given
    use: Any = batch.view
    for arguments in ((), (a,), (a, 0, 0)):
        with pytest.raises(TypeError):
            use(*arguments)
    for request in (None, 7, batch):
        with pytest.raises((AttributeError, BadArgument)):
            use(request, 0)
    with pytest.raises(BadArgument):
        use(b, 0)


def test_no_view_of_what_was_taken_or_given_back(given: Given) -> None:
    batch, a, _ = given
    with batch.buffer(a, 0) as buffer:
        with pytest.raises(DoubleRelease, match="taken as a Buffer"):
            batch.view(a, 0)
        assert bytes(buffer.view()) == b"one"
    assert bytes(batch.view(a, 1)) == b"two"
    batch.release()
    with pytest.raises(ClosedError):
        batch.view(a, 1)


def test_no_view_of_a_place_outside_the_area(given: Given) -> None:
    batch, a, _ = given
    before = batch.offs[0]
    for off in (1 << 60, before + (1 << 47), before | 1 << 48):
        batch.offs[0] = off
        with pytest.raises(CorruptRing, match="outside the area"):
            batch.view(a, 0)
    batch.offs[0] = before
    assert bytes(batch.view(a, 0)) == b"one"

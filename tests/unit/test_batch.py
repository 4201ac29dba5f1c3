"""What a batch shows of its turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pyzcrx._receive.batch import Batch, Run
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


def test_runs_are_a_batchs(given: Given) -> None:
    batch, *_ = given
    with pytest.raises(TypeError, match="cannot create"):
        type(batch.runs())()


@pytest.mark.parametrize("kind", [int, list, None, (), "Run"])
def test_runs_are_of_a_type_of_tuple(
    given: Given, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, *_ = given
    monkeypatch.setattr(Batch, "_kind", kind)
    with pytest.raises(TypeError, match="a type of tuple"):
        batch.runs()


def test_a_runs_views_are_as_those_of_its_entries(given: Given) -> None:
    batch, a, b = given
    for start, stop, error in (
        (0, 3, BadArgument),  # the last one is b's
        (1, 1 << 40, BadArgument),
        (-1, 2, IndexError),
        (3, 4, IndexError),
        (1 << 70, 1 << 71, OverflowError),
        (0, 1 << 70, OverflowError),
        ("0", 1, TypeError),
        (0, None, TypeError),
    ):
        with pytest.raises(error):
            Run(a, start, stop, 0, batch).views()  # type: ignore[arg-type]
    assert Run(a, 1, 2, 0, batch).views() == [b"two"]
    assert Run(b, 2, 2, 0, batch).views() == []
    with pytest.raises((AttributeError, BadArgument)):
        Run(None, 0, 1, 0, batch).views()  # type: ignore[arg-type]
    with batch.buffer(a, 0), pytest.raises(DoubleRelease, match="taken as a Buffer"):
        Run(a, 0, 2, 0, batch).views()
    batch.release()
    with pytest.raises(ClosedError):
        Run(a, 1, 2, 0, batch).views()


@pytest.mark.parametrize("run", [None, (), [0] * 5, (0,) * 4, (0,) * 6])
def test_views_are_of_a_run(given: Given, run: Any) -> None:
    batch, *_ = given
    with pytest.raises(TypeError, match="of a run"):
        batch._views(run)


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

"""A quiet turn that fills inboxes, in one call of C: what it says, and who is to be notified."""

from __future__ import annotations

from typing import Any

import pytest

import pyzcrx
from pyzcrx._lease import Queue
from pyzcrx._receive.events import Data, End
from pyzcrx._receive.reading import Reading
from pyzcrx._receive.request import Request
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving


def reading_of(
    kernel: ModelKernel, ifq: pyzcrx.Ifq, room_bytes: int | None = None
) -> tuple[Any, Reading]:
    """A peer, and who reads what it sends."""
    sock = kernel.socket()
    reading = ifq._reading(sock.fileno(), room_bytes)
    reading.go_on()
    return sock, reading


def test_each_request_is_named_once() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        a, first = reading_of(kernel, ifq)
        b, second = reading_of(kernel, ifq)
        for sock in (a, b, a, b):
            sock.send(b"x" * 3000)
        changed: list[Any] = []
        assert ring._core.collect_quietly(0, Queue(), changed) == 1
        assert len(changed) == 2
        assert set(changed) == {first.request, second.request}
        assert [each.chunks.read_some(9000) for each in (first, second)] == [b"x" * 6000] * 2
        a.send(b"y")
        assert ring._core.collect_quietly(0, Queue(), changed) == 1
        assert changed[2:] == [first.request]
        assert ring._core.collect_quietly(0, Queue(), None) == 1  # nothing came
        assert first.chunks.read_some(9) == b"y"


def test_what_is_no_streams_joins_the_queue() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock = kernel.socket()
        request = ifq.receive(sock.fileno())
        sock.send(b"data")
        queue: Any = Queue()
        changed: list[Any] = []
        assert ring._core.collect_quietly(0, queue, changed) == 1
        event = queue[0]
        assert (len(queue), event.request, bytes(event.buffer)) == (1, request, b"data")
        event.buffer.release()
        assert not changed


@pytest.mark.parametrize(
    ("crowded_above", "most_buffers", "spill_above", "said"),
    [(2, 0, 9, 1), (1, 1, 9, 2), (1, 2, 9, 1), (9, 9, 1, 2), (0, 0, 9, 2)],
)
def test_it_says_where_inboxes_may_have_too_much(
    crowded_above: int, most_buffers: int, spill_above: int, said: int
) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq)
        account = ifq._core.account
        account.crowded_above, account.spill_above = crowded_above, spill_above
        reading.chunks.most_buffers = most_buffers
        sock.send(bytes(2 * 4096))
        assert ring._core.collect_quietly(0, Queue(), []) == said
        assert account.leased == 2
        assert reading.chunks.buffers == 2
        assert len(reading.chunks.read(reading.chunks.nbytes)) == 2 * 4096
        assert reading.chunks.buffers == 0


def test_a_limit_is_told_in_a_quiet_turn() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq, room_bytes=8192)
        data = bytes(range(250)) * 60
        sock.send(data)
        got = b""
        for _ in range(4):
            changed: list[Any] = []
            assert ring._core.collect_quietly(0, Queue(), changed) == 1
            assert set(changed) == {reading.request}
            assert not ring._core.posted
            got += reading.chunks.read(reading.chunks.nbytes)
            reading.go_on()
        assert got == data


def test_an_end_is_told_behind_the_data_of_its_turn() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq)
        sock.send(b"all")
        sock.finish()
        changed: list[Any] = []
        while not reading.request.over:
            assert ring._core.collect_quietly(0, Queue(), changed) == 1
        assert changed[-1] is reading.request
        assert isinstance(reading.chunks.incoming[-1], End)
        assert reading.chunks.read_some(9) == b"all"
        assert reading.chunks.at_end


def test_what_brings_no_event_is_quiet() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        told = []

        class Told:
            def _complete(self, res: int, _flags: int) -> None:
                told.append(res)

        _, reading = reading_of(kernel, ifq)
        reading.request.cancel()  # that of the cancellation itself is nobody's
        operation: Any = Told()
        ring._core._operations[reading.request.token] = operation
        assert ring._core.collect_quietly(0, Queue(), []) == 1
        assert len(told) == 1


@pytest.mark.parametrize("which", ["plain", "abandoned"])
def test_an_event_that_no_reader_waits_for_is_for_python(which: str) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq)
        other = kernel.socket()
        plain = ifq.receive(other.fileno())
        for each in (sock, other):
            each.send(b"data")
        if which == "plain":
            other.finish()
        else:
            sock.finish()
            reading.chunks.abandoned = True
        queue: Any = Queue()
        changed: list[Any] = []
        assert ring._core.collect_quietly(0, queue, changed) == 0
        assert not len(queue)
        ring._delivery.collect(0)
        found = list(ring._delivery._undelivered)
        assert bytes(found[0].buffer) == b"data"
        assert [type(event) for event in found] == [Data] + [End] * (which == "plain")
        found[0].buffer.release()
        assert reading.chunks.has_bytes == (which == "plain")
        plain.cancel()


class Raised(Exception):
    """By a signal handler."""


def test_an_interruption_while_ends_are_told_loses_nothing(monkeypatch: Any) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        readings = [reading_of(kernel, ifq) for _ in range(3)]
        for sock, _ in readings:
            sock.send(b"data")
            sock.finish()
        asked = []
        complete = Request._complete

        def once(self: Request, res: int, flags: int) -> Any:
            asked.append(self)
            if len(asked) == 2:
                raise Raised
            return complete(self, res, flags)

        monkeypatch.setattr(Request, "_complete", once)
        with pytest.raises(Raised):
            ring._core.collect_quietly(0, Queue(), [])
        assert not any(reading.chunks.incoming for _, reading in readings)
        while not all(reading.request.over for _, reading in readings):
            ring._delivery.collect(0)
        for _, reading in readings:
            assert reading.chunks.read_some(9) == b"data"
            assert reading.chunks.at_end


def test_what_is_not_quiet_is_for_python() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq)
        sock.send(b"x")
        sock.finish()
        core = ring._core
        changed: list[Any] = []
        while not reading.chunks.ended:
            if not core.collect_quietly(0, Queue(), changed):
                ring._delivery.collect(0)
            reading.chunks.nbytes  # noqa: B018 - takes over what came
        assert reading.chunks.read_some(9) == b"x"
        core.quiet = False
        assert core.collect_quietly(0, Queue(), changed) == 0
        with pytest.raises(TypeError):
            core.collect_quietly(0, Queue(), ())  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            core.collect_quietly(0, [], [])  # type: ignore[arg-type]

"""A quiet turn that fills inboxes, in one call of C: what it says, and who is to be notified."""

from __future__ import annotations

from typing import Any

import pytest

import pyzcrx
from pyzcrx._lease import Queue
from pyzcrx._receive.reading import Reading
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving


def reading_of(kernel: ModelKernel, ifq: pyzcrx.Ifq) -> tuple[Any, Reading]:
    """A peer, and who reads what it sends."""
    sock = kernel.socket()
    reading = ifq._reading(sock.fileno(), None)
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


def test_it_says_where_inboxes_may_have_too_much() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, reading = reading_of(kernel, ifq)
        ifq._core.account.crowded_above = 0
        sock.send(b"x")
        assert ring._core.collect_quietly(0, Queue(), []) == 2
        assert reading.chunks.read_some(9) == b"x"


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

"""A stream that reads past its limit: C resumes it, as long as nothing is to be decided."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx._ifq.core import IfqCore
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._kernel.memory import PAGE
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.request import Request
from pyzcrx.testing.stand_in import StandIn
from pyzcrx.types import Stream
from tests.perf.replay import Replay
from tests.unit.test_stream import streaming

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")

ROOM = 4 * PAGE
"""Two pages a limit."""
DATA = os.urandom(20 * PAGE)
PIECES = [DATA[at : at + PAGE] for at in range(0, len(DATA), PAGE)]


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The limits that Python resumed a request with."""
    limits: list[int | None] = []
    resume = Request.resume

    def noted(request: Request, limit: int | None = None) -> None:
        limits.append(limit)
        resume(request, limit)

    monkeypatch.setattr(Request, "resume", noted)
    return limits


def read(stream: Stream, most: int = len(DATA)) -> bytes:
    got = b""
    for chunk in stream:
        with chunk:
            got += bytes(chunk)
        if len(got) >= most:
            break
    return got


def test_python_resumes_it_the_first_time_alone(resumed: list[int | None]) -> None:
    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):
        assert read(stream) == DATA
        assert not list(stream)
        assert stream.at_end
    assert resumed == [ROOM // 2]


def test_it_receives_no_further_than_it_is_read(resumed: list[int | None]) -> None:
    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):
        assert read(stream, ROOM) == DATA[:ROOM]
        assert stream._request.received <= 2 * ROOM
        assert stream.read() == DATA[ROOM:]
    assert resumed[0] == ROOM // 2


def test_python_resumes_it_once_more_where_its_share_changed(resumed: list[int | None]) -> None:
    with streaming(*PIECES) as (stream, _):
        stream._reading._half_bytes = PAGE
        stream._reading.shared_bytes = ROOM
        got = read(stream, ROOM)
        assert resumed == [ROOM]
        stream._ring.readers += 1  # as another one adds
        assert got + read(stream) == DATA
    assert resumed[:2] == [ROOM, ROOM // 2]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_keeps_it_from_being_armed_is_raised_and_loses_nothing(
    times: int, resumed: list[int | None]
) -> None:
    """Once in C: Python does it. Then Python says what it was, and tries once more itself."""
    real, left = lib.pz_prep_recv_zc, 0

    def refuse(*arguments: object) -> int:
        nonlocal left
        if left:
            left -= 1
            return -errno.ENXIO
        return int(real(*arguments))

    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):
        got = read(stream, ROOM)
        real = lib.pz_prep_recv_zc
        refusing = StandIn({"pz_prep_recv_zc": refuse})
        refusing.put()
        try:
            left = times
            if times > 1:
                with pytest.raises(errors.KernelError):
                    read(stream)
                assert not left
                assert stream._request.over == (times == 3)
            assert got + read(stream) == DATA
        finally:
            refusing.take_back()
    assert len(resumed) == {1: 2, 2: 2, 3: 3}[times]


def nothing(_stream: Stream) -> bytes:
    return b""


def absorb(stream: Stream) -> bytes:
    stream._chunks.absorb()
    return b""


def read_on(stream: Stream) -> bytes:
    return stream.read1()


def read_on_and_turn(stream: Stream) -> bytes:
    """Then the inbox has another page, and another limit."""
    data = stream.read1()
    stream._delivery.collect(0)
    return data


def raise_gone(_stream: Stream) -> bytes:
    raise kernel_error(errno.ENODEV, "receive", "the NIC")


@pytest.mark.parametrize("meanwhile", [nothing, absorb, read_on, read_on_and_turn, raise_gone])
def test_whatever_happens_within_loses_no_byte(
    meanwhile: Callable[[Stream], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks the ifq is Python, in which a signal handler may run."""
    real = IfqCore.check_receives
    got = b""
    due = False

    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):

        def check_receives(core: IfqCore) -> None:
            nonlocal due, got
            real(core)
            if due:
                due = False
                got += meanwhile(stream)

        monkeypatch.setattr(IfqCore, "check_receives", check_receives)
        got += read(stream, ROOM)
        due = True
        if meanwhile is raise_gone:
            with pytest.raises(errors.InterfaceGone):
                read(stream)
        before, got = got, b""
        rest = read(stream)
        assert not due
        assert before + got + rest == DATA


@pytest.mark.parametrize("lost", ["incoming", "_over", "_plain"])
def test_members_that_are_gone_crash_nothing(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = IfqCore.check_receives

    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):
        chunks, request = stream._chunks, stream._request
        read(stream, ROOM)
        place = chunks if lost == "incoming" else request
        before = getattr(place, lost)

        def check_receives(core: IfqCore) -> None:
            real(core)
            delattr(place, lost)

        monkeypatch.setattr(IfqCore, "check_receives", check_receives)
        with pytest.raises(AttributeError):
            read(stream)
        monkeypatch.setattr(IfqCore, "check_receives", real)
        setattr(place, lost, before)


def test_a_ring_that_is_closed_arms_nothing() -> None:
    with Replay(per_turn=2, turns=2) as replay:
        request, core = replay.request, replay.ring._core
        replay.ring.close()
        assert core.arm(request, 0) == -errno.EBADF


class _Stop(BaseException):
    pass


@pytest.mark.parametrize("where", [(Chunks, "clear"), (Request, "cancel")])
def test_a_close_that_is_interrupted_lets_go_of_the_socket(
    where: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, or where the kernel holds the request, once it is at its limit."""
    kind, name = where
    real = getattr(kind, name)
    due = True

    def interrupted(self: object) -> None:
        nonlocal due
        if due:
            due = False
            raise _Stop
        real(self)

    with streaming(*PIECES, room_bytes=ROOM) as (stream, _):
        request, delivery = stream._request, stream._delivery
        assert DATA.startswith(read(stream, PAGE))
        monkeypatch.setattr(kind, name, interrupted)
        with pytest.raises(_Stop):
            stream.close()
        with pytest.raises(pyzcrx.ClosedError):
            next(stream)
        for _ in range(4):
            delivery.collect(0)
        stream._chunks.clear()
        assert request._held.number < 0

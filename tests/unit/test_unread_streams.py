"""What streams that nobody reads hold is freed when the NIC finds no buffer."""

from __future__ import annotations

import pytest

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx._receive.protocol import FRUITLESS_FLUSHES
from pyzcrx._receive.request import Request
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving, settled

SECOND_NS = 1_000_000_000

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


def test_what_they_hold_out_of_their_sockets_is_copied_too() -> None:
    """Too little to be copied as what fills half of the area is, and nothing else comes."""
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        account = ifq._core.account
        sock = kernel.socket()
        with ifq.stream(sock.fileno(), timeout=0) as stream:
            sock.send(b"a" * 4 * PAGE)
            assert stream.read(1) == b"a"
            before = account.leased
            assert before > 1
            assert ifq._core.make_way()
            assert account.leased == 1, "the one that was begun"
            assert stream.statistics["spilled_bytes"]
            assert not ifq._core.make_way(), "it is armed and holds nothing"
            sock.finish()
            assert stream.read() == b"a" * (4 * PAGE - 1)
        settled(kernel, ring, ifq)


def test_what_was_never_asked_for_is_received() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        read, unread = kernel.socket(), kernel.socket()
        with (
            ifq.stream(read.fileno(), timeout=0) as stream,
            ifq.stream(unread.fileno(), timeout=0) as other,
        ):
            unread.send(b"b" * 100)
            unread.finish()
            with pytest.raises(TimeoutError):
                stream.read(1)
            assert len(b"".join(unread.segments)) == 100
            assert ifq._core.make_way()
            with pytest.raises(TimeoutError):
                stream.read(1)
            assert not unread.segments
            assert other.read() == b"b" * 100
        settled(kernel, ring, ifq)


def test_a_stream_that_has_all_that_it_may_receive_is_left_alone() -> None:
    """What comes after is for someone else."""
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock = kernel.socket()
        sock.send(b"mine, not mine")
        reading = ifq._reading(sock.fileno(), None, 4)
        reading.go_on()
        ring._delivery.collect(0)
        assert reading.chunks.nbytes == 4
        ifq._core.make_way()
        ring._delivery.collect(0)
        assert reading.chunks.read(4) == b"mine"
        assert reading.chunks.nbytes == 0
        assert sum(map(len, sock.segments)) == len(b", not mine")
        assert reading.request.over
        reading.end()
        settled(kernel, ring, ifq)


@pytest.mark.parametrize("held", [0, 40])
def test_it_is_tried_whatever_else_is_held_and_no_fault_of_sockets_is_claimed(held: int) -> None:
    """More than half of the area is with the consumer: that is no segment that waits."""
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        core, tried = ifq._core, []

        def unread() -> bool:
            tried.append(True)
            return False

        core.unread = unread
        core.account.take(held)
        for tenth in range(11):
            ring._core.columns.now_ns = 100 * SECOND_NS + tenth * SECOND_NS // 10
            core.relief.card_starved()
        assert tried == [True]
        assert core.relief.warned is (held == 0)
        core.account.take(-held)


@pytest.mark.parametrize("limited", [False, True])
def test_bytes_that_find_no_buffer_to_be_copied_into_are_received_without(limited: bool) -> None:
    """All buffers lie behind them, as after the binding of a queue that was in use."""
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        core = ifq._core
        core.waiting._make_way = core.make_way  # as with a NIC
        behind, kernel.free[:] = kernel.free[:], []
        sock = kernel.socket()
        sock.send(b"c" * 3 * PAGE)
        if limited:
            memory = bytearray(2 * PAGE)
            assert ifq.receive_into(sock.fileno(), memory, timeout=5) == 2 * PAGE
            assert memory == b"c" * 2 * PAGE
            kernel.free[:] = behind
        else:
            with ifq.stream(sock.fileno(), timeout=5) as stream:
                assert stream.read(3 * PAGE) == b"c" * 3 * PAGE
                kernel.free[:] = behind
                sock.send(b"d")
                sock.finish()
                assert stream.read() == b"d"
        received = 2 * PAGE if limited else 3 * PAGE + 1
        assert ifq.total_bytes == ifq.stats().bytes == received
        settled(kernel, ring, ifq)


def test_a_request_that_no_stream_reads_still_fails_where_no_buffer_is_free() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        ifq._core.waiting._make_way = ifq._core.make_way
        behind, kernel.free[:] = kernel.free[:], []
        sock = kernel.socket()
        sock.send(b"e" * PAGE)
        ifq.receive(sock.fileno())
        (event,) = ring.events(timeout=5)
        assert isinstance(event, pyzcrx.Failed)
        assert isinstance(event.error, pyzcrx.AreaExhausted)
        kernel.free[:] = behind
        settled(kernel, ring, ifq)


def test_the_end_of_another_request_in_the_same_turn_is_no_reason_to_give_up() -> None:
    """Until its event is delivered, nothing is received for streams."""
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        waiting = ifq._core.waiting
        waiting._make_way = ifq._core.make_way
        behind, kernel.free[:] = kernel.free[:], []
        one, other = kernel.socket(), kernel.socket()
        for sock in (one, other):
            sock.send(b"f" * PAGE)
        with ifq.stream(one.fileno(), timeout=5) as stream:
            cancelled = ifq.receive(other.fileno())
            stream._reading.go_on()
            requests = (stream._request, cancelled)
            while any(each._protocol.fruitless < FRUITLESS_FLUSHES for each in requests):
                ring._delivery.collect(0)
            waiting._hopes, waiting._hoped_ns = FRUITLESS_FLUSHES, 0
            waiting._taken_seen = ifq._core.account.taken
            cancelled.cancel()
            assert stream.read(PAGE) == b"f" * PAGE
        (event,) = ring.events(timeout=0)
        assert isinstance(event, pyzcrx.Failed)
        assert isinstance(event.error, pyzcrx.errors.Cancelled)
        kernel.free[:] = behind
        settled(kernel, ring, ifq)


class _Interrupt(BaseException):
    pass


def test_an_interruption_loses_no_byte_that_was_received_without_the_area(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler raises right after the bytes have left their socket."""
    data = b"".join(bytes([n]) * PAGE for n in range(40))
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        ifq._core.waiting._make_way = ifq._core.make_way
        behind, kernel.free[:] = kernel.free[:], []
        sock = kernel.socket()
        sock.send(data)
        with ifq.stream(sock.fileno(), timeout=5) as stream:
            request = stream._request
            struck: list[int] = []
            hand = type(request)._hand_plain

            def strike(self: Request) -> None:
                if self._plain is not None and self._plain.bytes and len(struck) < 3:
                    struck.append(self._plain.bytes)
                    raise _Interrupt
                hand(self)

            monkeypatch.setattr(type(request), "_hand_plain", strike)
            for _ in range(2):
                with pytest.raises(_Interrupt):
                    stream.read(PAGE)
            # A buffer comes back meanwhile: what comes by it is behind what was received.
            kernel.free[:] = behind
            sock.finish()
            with pytest.raises(_Interrupt):
                stream.read()
            assert stream.read() == data
        assert ifq.total_bytes == ifq.stats().bytes == len(data)
        settled(kernel, ring, ifq)

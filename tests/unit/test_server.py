"""What fails for one connection ends that one; the echo server goes on with the others."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import pytest

import pyzcrx
from pyzcrx._common.stalled import AFTER_S, RELIEF_BYTES
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._pressure.holders import Held
from pyzcrx.cli.acceptor import RETRY_S
from pyzcrx.cli.server import Server
from pyzcrx.errors import ZcrxError
from pyzcrx.forwarding.backlog import Backlog
from tests.unit.mishaps import every_error, kernel_errors
from tests.unit.plain import PlainIfq, PlainRing

BACKLOG_BYTES = 1 << 16
IDLE_S = 100.0


class Bench:
    def __init__(self, ring: PlainRing, *, most: int = 100) -> None:
        self.ring = ring
        self.ifq = PlainIfq(ring)
        self.told: list[str] = []
        self.server = Server(
            cast("pyzcrx.Ring", ring),
            cast("pyzcrx.Ifq", self.ifq),
            ring.listener,
            told=self.told.append,
            backlog=Backlog(1 << 30, BACKLOG_BYTES),
            max_connections=most,
            idle_timeout_s=IDLE_S,
            clock=ring.clock,
        )

    def pass_time(self, seconds: float) -> None:
        self.ring.now += seconds
        self.server.turn(0)

    def settle(self) -> None:
        for _ in range(20):
            self.server.turn(0)

    def stuffed(self) -> socket.socket:
        """A peer that sent all it could and read nothing."""
        sock = self.ring.connect()
        taken = -1
        while taken:
            taken = 0
            with suppress(OSError):
                while True:
                    taken += sock.send(bytes(BACKLOG_BYTES))
            self.settle()
        return sock

    def served(self) -> None:
        sock = self.ring.connect()
        sock.sendall(b"hello")
        self.settle()
        assert sock.recv(100) == b"hello"
        sock.close()
        self.settle()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with PlainRing() as ring:
        bench = Bench(ring)
        yield bench
        bench.server.close()


def _name(error: ZcrxError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", kernel_errors(), ids=_name)
@pytest.mark.parametrize("call", ["receive", "send", "resume", "cancel", "accept"])
def test_a_call_that_fails_ends_a_connection_at_most(
    bench: Bench, call: str, error: pyzcrx.KernelError
) -> None:
    bench.ring.refusals[call] = error
    if call == "accept":
        [accept] = bench.ring._accepts
        bench.ring.end_accept(accept, errno.EMFILE)
        for _ in range(3):
            bench.pass_time(RETRY_S)
    elif call == "cancel":
        bench.ring.connect()
        bench.settle()
        bench.pass_time(IDLE_S)
    else:
        sock = bench.stuffed()  # so that it is paused, and resumed
        while bench.ring.refusals and sock.recv(1 << 16):
            bench.settle()
    bench.settle()
    assert not bench.ring.refusals
    assert bench.server.failures
    assert bench.ring.connections == 0
    bench.served()


@pytest.mark.parametrize("error", every_error(), ids=_name)
@pytest.mark.parametrize("what", ["receiving", "sending"])
def test_a_request_that_fails_ends_its_connection(
    bench: Bench, what: str, error: ZcrxError
) -> None:
    if what == "receiving":
        bench.ring.connect()
        bench.settle()
    else:
        bench.stuffed()
    [operation] = getattr(bench.ring, what)
    bench.ring.fail(operation, error)
    bench.settle()
    assert error in bench.server.failures
    assert bench.ring.connections == 0
    bench.served()


def test_who_holds_most_of_the_area_is_reset(bench: Bench) -> None:
    for _ in range(3):
        bench.stuffed()
    sends = bench.ring.sending
    most_first = [sends[1], sends[0], sends[2]]
    held = [Held(send, 10, 40_960) for send in most_first]  # type: ignore[arg-type]
    for left in (2, 1, 0):
        # What is reset still holds most, until a turn ends its send.
        bench.ring.held = pyzcrx.errors.AreaHeld("too much", (), held)
        bench.server.turn(0)
        assert len(bench.told) == 3 - left
        assert "held most of the area: 40960 bytes in 10 buffers" in bench.told[-1]
    bench.ring.held = pyzcrx.errors.AreaHeld("too much", (), held)
    bench.server.turn(0)  # nobody is left to be reset
    bench.settle()
    assert bench.ring.connections == 0
    bench.served()


def test_more_than_most_are_refused_without_descriptors_too() -> None:
    with PlainRing(descriptors=8) as ring:
        bench = Bench(ring, most=6)
        crowd = [ring.connect() for _ in range(50)]
        for _ in crowd:
            bench.server.turn(0)
        assert ring.connections == 6
        for sock in crowd[6:]:
            assert sock.recv(1) == b""
        crowd[0].close()
        bench.settle()
        bench.served()
        bench.server.close()


def test_a_card_taken_away_ends_it(bench: Bench) -> None:
    bench.ring.connect().send(b"hello")
    bench.ifq.gone = kernel_error(errno.ENODEV, "receive", "eth0, queue 1")
    with pytest.raises(pyzcrx.errors.InterfaceGone):
        bench.server.turn(0)


def unsent(bench: Bench) -> int:
    [connection] = bench.server._connections.values()
    return connection.outbox.unsent_bytes


@pytest.mark.parametrize("crowded", [False, True])
def test_who_cannot_send_is_read_on_for_a_while(bench: Bench, crowded: bool) -> None:
    sock = bench.stuffed()
    sock.setblocking(False)
    sent = 0
    found = [unsent(bench)]
    bench.ifq.crowded = crowded
    for _ in range(8):
        bench.pass_time(AFTER_S)
        bench.settle()
        found.append(unsent(bench))
        with suppress(BlockingIOError):
            while True:
                sent += sock.send(bytes(BACKLOG_BYTES))
    most_bytes = BACKLOG_BYTES * 3 // 2 + RELIEF_BYTES
    assert found == sorted(found)
    assert found[-1] <= most_bytes
    assert (found[-1] > found[0]) == (not crowded)
    assert found[-1] == found[-2]  # there is an end to it
    bench.ifq.crowded = False
    idle = 0
    while idle < 5:
        bench.settle()
        try:
            idle = 0 if sock.recv(1 << 16) else idle + 1
        except BlockingIOError:
            idle += 1
    assert unsent(bench) == 0
    sock.sendall(b"more")
    bench.settle()
    assert sock.recv(100) == b"more"


def test_who_sends_again_is_read_as_ever(bench: Bench) -> None:
    """A time without progress does not count once there was some."""
    sock = bench.stuffed()
    bench.pass_time(AFTER_S / 2)
    while not bench.server._stalled._since:
        sock.recv(1 << 16)
        bench.settle()
    before = unsent(bench)
    bench.pass_time(AFTER_S / 4)
    assert unsent(bench) <= before

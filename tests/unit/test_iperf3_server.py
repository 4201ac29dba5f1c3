"""No peer ends, blocks or starves the iperf3 server, whatever it does at which step."""

from __future__ import annotations

import errno
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest

import pyzcrx
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.bench import iperf3_server
from pyzcrx.bench.iperf3 import COOKIE_BYTES, MAX_TIME_S, State, framed
from pyzcrx.bench.iperf3_server import FAREWELL_S, OVERTIME_S, Iperf3Server, TestResult
from pyzcrx.cli.acceptor import REFUSALS, RETRY_S, SPARE, close_by_reset
from tests.unit.mishaps import kernel_errors
from tests.unit.plain import PlainIfq, PlainRing

COOKIE = b"abcdefghijklmnopqrstuvwxyz234567abcd\0"
OTHER = b"bcdefghijklmnopqrstuvwxyz234567abcde\0"
PATIENCE_S = 20.0
BLOCK = bytes(50_000)


class Bench:
    """The server and its clients, on plain sockets."""

    def __init__(self, ring: PlainRing) -> None:
        self.ring = ring
        self.ifq = PlainIfq(ring)
        self.told: list[TestResult] = []
        self.server = Iperf3Server(
            cast("pyzcrx.Ring", ring),
            cast("pyzcrx.Ifq", self.ifq),
            ring.listener,
            told=self.told.append,
            timeout_s=PATIENCE_S,
            clock=ring.clock,
        )

    def settle(self) -> None:
        """All that can happen now."""
        for _ in range(20):
            self.server.turn(0)

    def pass_time(self, seconds: float) -> None:
        self.ring.now += seconds
        self.server.turn(0)

    def served(self) -> TestResult:
        """Another client's test, which must come to its end."""
        before = len(self.told)
        peer = Peer(self)
        peer.to("done")
        assert len(self.told) == before + 1
        assert self.told[-1].trouble == ""
        assert self.told[-1].size_bytes == len(BLOCK)
        return self.told[-1]


class Peer:
    """An iperf3 client that goes as far as it is told."""

    def __init__(self, bench: Bench, parameters: dict[str, Any] | None = None) -> None:
        self.bench = bench
        self.parameters = parameters or {"tcp": True, "time": 10}
        self.control = bench.ring.connect()
        self.streams: list[socket.socket] = []

    def say(self, data: bytes, *answers: State) -> None:
        self.control.sendall(data)
        self.bench.settle()
        if answers:
            assert self.control.recv(len(answers)) == bytes(answers)

    def stream(self, cookie: bytes = COOKIE) -> socket.socket:
        self.streams.append(self.bench.ring.connect())
        self.streams[-1].sendall(cookie)
        self.bench.settle()
        return self.streams[-1]

    def send_on(self, data: bytes) -> None:
        """On the first stream."""
        self.streams[0].sendall(data)
        self.bench.settle()

    def to(self, step: str) -> None:
        """Take one step after the other, to *step* and no further."""
        for name, take in STEPS.items():
            take(self)
            if name == step:
                return
        raise AssertionError(step)


def _parameters(peer: Peer) -> bytes:
    return framed(peer.parameters)


def _results(peer: Peer, size_bytes: int = len(BLOCK)) -> bytes:
    n = peer.parameters.get("parallel", 1)
    return framed({"streams": [{"id": i + 1, "bytes": 0 if i else size_bytes} for i in range(n)]})


def _results_told(peer: Peer) -> None:
    peer.say(_results(peer)[20:])
    answer = peer.control.recv(1 << 16)
    assert answer[-1] == State.DISPLAY_RESULTS
    assert json.loads(answer[4:-1])["streams"][0]["bytes"] == len(BLOCK)


STEPS: dict[str, Callable[[Peer], object]] = {
    "connected": lambda peer: peer.bench.settle(),
    "half a cookie": lambda peer: peer.say(COOKIE[:10]),
    "cookie": lambda peer: peer.say(COOKIE[10:], State.PARAM_EXCHANGE),
    "half a length": lambda peer: peer.say(_parameters(peer)[:2]),
    "half the parameters": lambda peer: peer.say(_parameters(peer)[2:10]),
    "parameters": lambda peer: peer.say(_parameters(peer)[10:], State.CREATE_STREAMS),
    "half a stream's cookie": lambda peer: peer.stream(COOKIE[:5]),
    "a stream": lambda peer: peer.send_on(COOKIE[5:]),
    "all streams": lambda peer: [
        peer.stream() for _ in range(peer.parameters.get("parallel", 1) - 1)
    ],
    "running": lambda peer: peer.say(b"", State.TEST_START, State.TEST_RUNNING),
    "payload": lambda peer: peer.send_on(BLOCK),
    "end": lambda peer: peer.say(bytes([State.TEST_END]), State.EXCHANGE_RESULTS),
    "half the results": lambda peer: peer.say(_results(peer)[:20]),
    "results": _results_told,
    "done": lambda peer: peer.say(bytes([State.IPERF_DONE])),
}
"""In their order, of a client from its first connection to its last word."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    with PlainRing() as ring:
        bench = Bench(ring)
        yield bench
        bench.server.close()


def silent(peer: Peer) -> None:
    """Keeps all connections open."""


def closes(peer: Peer) -> None:
    for sock in (peer.control, *peer.streams):
        sock.close()


def resets(peer: Peer) -> None:
    for sock in (peer.control, *peer.streams):
        close_by_reset(sock.fileno())
        sock.close()


def half_closes(peer: Peer) -> None:
    for sock in (peer.control, *peer.streams):
        sock.shutdown(socket.SHUT_WR)


def closes_its_streams(peer: Peer) -> None:
    for sock in peer.streams:
        sock.close()


def closes_control(peer: Peer) -> None:
    peer.control.close()


def talks_nonsense(peer: Peer) -> None:
    with suppress(OSError):
        peer.control.sendall(b"\xff" * 70_000)


def sends_for_ever(peer: Peer) -> None:
    """On every connection, as much as is taken."""
    for sock in (peer.control, *peer.streams):
        with suppress(OSError):
            while sock.send(BLOCK):
                pass


@pytest.mark.parametrize(
    "deed",
    [
        silent,
        closes,
        resets,
        half_closes,
        closes_its_streams,
        closes_control,
        talks_nonsense,
        sends_for_ever,
    ],
)
@pytest.mark.parametrize(
    "parameters",
    [
        {"tcp": True, "time": MAX_TIME_S, "omit": 600, "parallel": 2},
        {"tcp": True, "time": 0, "num": 200 << 30},
    ],
    ids=["time", "bytes"],
)
@pytest.mark.parametrize("step", STEPS)
def test_at_each_step_a_peer_is_given_up_and_the_next_is_served(
    bench: Bench, step: str, parameters: dict[str, Any], deed: Callable[[Peer], None]
) -> None:
    peer = Peer(bench, parameters)
    peer.to(step)
    began = bench.ring.now
    deed(peer)
    bench.settle()
    while bench.ring.connections:
        bench.server.turn(None)
    assert bench.ring.now - began <= 3 * PATIENCE_S
    assert bench.server.idle
    assert len(bench.told) == (list(STEPS).index(step) >= list(STEPS).index("cookie"))
    bench.served()


@pytest.mark.parametrize("step", STEPS)
def test_what_trickles_makes_no_step_longer(bench: Bench, step: str) -> None:
    """But for payload: with some of it there is progress, up to a test's time."""
    peer = Peer(bench, {"tcp": True, "time": 100})
    peer.to(step)
    began = bench.ring.now
    steps = list(STEPS)
    text = b"".join([COOKIE[10:], _parameters(peer)])
    if steps.index(step) >= steps.index("end"):
        text = _results(peer, 1 << 40)
    elif steps.index(step) >= steps.index("cookie"):
        text = _parameters(peer)
    # From far more bytes than there is time for.
    drops = iter(text + b"x" * 1000)
    while bench.ring.connections:
        with suppress(OSError):
            if steps.index("running") <= steps.index(step) < steps.index("end"):
                peer.streams[0].send(b"x")
            else:
                peer.control.send(bytes([next(drops)]))
        bench.pass_time(PATIENCE_S / 2)
    most = 100 + OVERTIME_S + PATIENCE_S if "running" in steps[: steps.index(step) + 1] else 0
    assert bench.ring.now - began <= max(most, 3 * PATIENCE_S)
    bench.served()


def test_payload_without_an_end_has_one(bench: Bench) -> None:
    peer = Peer(bench, {"tcp": True, "num": 200 << 30})
    peer.to("running")
    began = bench.ring.now
    while not bench.told:
        peer.streams[0].send(b"x")
        bench.pass_time(PATIENCE_S / 2)
    assert bench.ring.now - began <= MAX_TIME_S + OVERTIME_S + PATIENCE_S
    assert bench.told[0].trouble == "the client fell silent in TEST_RUNNING"


def test_results_told_again_and_again_do_not_keep_it(bench: Bench) -> None:
    peer = Peer(bench)
    peer.to("end")
    began = bench.ring.now
    while not bench.told:
        with suppress(OSError):
            peer.control.sendall(_results(peer, 1 << 40))  # more than will ever come
        bench.pass_time(1)
    assert bench.ring.now - began <= 2 * PATIENCE_S
    bench.served()


# -- data connections -------------------------------------------------------------------


def test_strangers_among_the_streams_are_denied(bench: Bench) -> None:
    peer = Peer(bench)
    peer.to("parameters")
    stranger = peer.stream(OTHER)
    assert stranger.recv(10) == bytes([State.ACCESS_DENIED])
    peer.streams.clear()
    peer.stream()
    peer.say(b"", State.TEST_START, State.TEST_RUNNING)
    more = peer.stream()
    assert more.recv(10) == bytes([State.ACCESS_DENIED])
    more.sendall(BLOCK)
    peer.streams.pop()
    peer.streams[0].sendall(BLOCK)
    peer.say(bytes([State.TEST_END]), State.EXCHANGE_RESULTS)
    peer.say(_results(peer))
    assert peer.control.recv(1 << 16)[-1] == State.DISPLAY_RESULTS
    peer.say(bytes([State.IPERF_DONE]))
    assert bench.told == [TestResult(1, len(BLOCK), 0)]


@pytest.mark.parametrize(
    "message",
    [
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 5) + b"\0\0\0\0\0",
        struct.pack(">I", 0),
        struct.pack(">I", 4) + b"\xff\xfe\0\xd8",
        framed({"parallel": -1}),
        framed({"parallel": 1 << 70}),
        framed({"time": -(1 << 70)}),
        framed({"num": float("inf")}),
        framed({"num": float("nan")}),
        framed({"parallel": "x" * 60_000}),
    ],
)
def test_bad_parameters_end_a_test_at_once(bench: Bench, message: bytes) -> None:
    peer = Peer(bench)
    peer.to("cookie")
    peer.say(message)
    assert peer.control.recv(100)[0] == State.SERVER_ERROR
    [result] = bench.told
    assert result.trouble
    assert len(result.trouble) < 120
    bench.served()


# -- crowds -----------------------------------------------------------------------------


@pytest.mark.parametrize("cookie", [b"", COOKIE[:5], COOKIE, OTHER], ids=len)
def test_a_crowd_without_a_word_takes_no_place(
    monkeypatch: pytest.MonkeyPatch, cookie: bytes
) -> None:
    """Fewer descriptors than peers, as with ``ulimit -n``."""
    monkeypatch.setattr(iperf3_server, "make_room", lambda _n: 24)
    with PlainRing(descriptors=40) as ring:
        bench = Bench(ring)
        first = Peer(bench)
        first.to("running")
        crowd = [ring.connect() for _ in range(300)]
        for sock in crowd:
            sock.sendall(cookie)
        bench.settle()
        assert ring.connections <= 24
        # The test that runs is not touched, and is the last that has to wait for nobody.
        first.streams[0].sendall(BLOCK)
        first.say(bytes([State.TEST_END]), State.EXCHANGE_RESULTS)
        first.say(_results(first))
        first.say(bytes([State.IPERF_DONE]))
        assert bench.told[0].trouble == ""
        bench.served()
        bench.server.close()


@pytest.mark.parametrize("most", [16, 24, 48])
def test_who_comes_behind_a_crowd_is_served(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """It is accepted in a burst with many of them."""
    monkeypatch.setattr(iperf3_server, "make_room", lambda _n: most)
    for crowd in range(most - SPARE, most + 2 * SPARE, 3):
        with PlainRing(descriptors=most + SPARE) as ring:
            bench = Bench(ring)
            for _ in range(crowd):
                ring.connect()
            peer = Peer(bench)
            peer.control.sendall(COOKIE)
            for _ in range(crowd + 10):
                bench.server.turn(0)
            assert peer.control.recv(1) == bytes([State.PARAM_EXCHANGE])
            bench.server.close()


def test_a_test_among_others_who_do_not_stop_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iperf3_server, "make_room", lambda _n: 24)
    with PlainRing(descriptors=40) as ring:
        bench = Bench(ring)
        turn = bench.server.turn

        def turn_among_others(timeout: float | None) -> None:
            ring.connect()
            turn(timeout)

        monkeypatch.setattr(bench.server, "turn", turn_among_others)
        for _ in range(3):
            peer = Peer(bench)
            peer.say(COOKIE, State.PARAM_EXCHANGE)
            peer.say(_parameters(peer), State.CREATE_STREAMS)
            peer.stream().sendall(BLOCK)
            peer.say(b"", State.TEST_START, State.TEST_RUNNING)
            peer.say(bytes([State.TEST_END]), State.EXCHANGE_RESULTS)
            peer.say(_results(peer))
            peer.say(bytes([State.IPERF_DONE]))
        assert bench.told == [TestResult(1, len(BLOCK), 0)] * 3
        bench.server.close()


def test_without_a_descriptor_those_that_wait_are_refused(bench: Bench) -> None:
    """Where others took the descriptors that there was room for."""
    bench.ring.descriptors = 5
    crowd = [bench.ring.connect() for _ in range(REFUSALS // 2)]
    bench.settle()
    assert bench.ring.connections == 5
    for sock in crowd[5:]:
        assert sock.recv(1) == b""
    while bench.ring.connections:  # the five run out of time
        bench.server.turn(None)
    bench.served()


# -- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", kernel_errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["receive", "cancel", "accept"])
def test_a_call_that_fails_ends_a_connection_at_most(
    bench: Bench, call: str, error: pyzcrx.KernelError
) -> None:
    if call == "accept":
        bench.ring.descriptors = 0
    bench.ring.refusals[call] = error
    peer = Peer(bench)
    bench.settle()
    bench.ring.descriptors = 1000
    with suppress(OSError):
        peer.control.send(b"x" * COOKIE_BYTES)  # leaves, which is a cancellation
    bench.settle()
    while bench.ring.connections:
        bench.server.turn(None)
    for _ in range(2):
        bench.pass_time(RETRY_S)
    assert not bench.ring.refusals
    bench.served()


@pytest.mark.parametrize(
    ("step", "error"),
    [(step, kernel_errors()[0]) for step in STEPS]
    + [("running", error) for error in kernel_errors()[1:]],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_request_that_fails_ends_its_test_at_most(
    bench: Bench, step: str, error: pyzcrx.KernelError
) -> None:
    peer = Peer(bench)
    peer.to(step)
    for request in list(bench.ring.receiving):
        bench.ring.fail(request, error)
    bench.settle()
    assert bench.server.idle
    bench.served()


def test_only_a_broken_listener_ends_it(bench: Bench) -> None:
    for number in (errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN, errno.EPERM):
        [accept] = bench.ring._accepts
        bench.ring.end_accept(accept, number)
        bench.server.turn(0)
        bench.server.turn(1)
        bench.served()
    [accept] = bench.ring._accepts
    bench.ring.end_accept(accept, errno.EBADF)
    with pytest.raises(pyzcrx.KernelError, match="accept"):
        bench.server.turn(0)


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_card_taken_away_is_noticed_at_once(bench: Bench, step: str | None) -> None:
    if step is not None:
        Peer(bench).to(step)
    bench.ifq.gone = kernel_error(errno.ENODEV, "receive", "eth0, queue 1")
    with pytest.raises(pyzcrx.errors.InterfaceGone):
        bench.server.turn(0)
    bench.ring.connect()  # nor is another error in its place, where one comes in this moment
    with pytest.raises(pyzcrx.errors.InterfaceGone):
        bench.server.turn(0)


# -- figures ----------------------------------------------------------------------------


def answered(peer: Peer, size_bytes: int) -> dict[str, Any]:
    """The first stream in the server's results."""
    peer.say(bytes([State.TEST_END]), State.EXCHANGE_RESULTS)
    peer.say(_results(peer, size_bytes))
    while not (answer := _some(peer.control)):
        peer.bench.server.turn(None)
    peer.say(bytes([State.IPERF_DONE]))
    return dict(json.loads(answer[4:-1])["streams"][0])


def _some(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("parameters", [{"time": 5}, {"time": 5, "omit": 2}, {"num": 1}])
def test_a_test_without_payload_took_as_long_as_it_took(
    bench: Bench, parameters: dict[str, Any]
) -> None:
    peer = Peer(bench, parameters)
    peer.to("running")
    bench.server.turn(3)
    assert answered(peer, 0)["end_time"] == pytest.approx(3)
    [told] = bench.told
    assert (told.streams, told.size_bytes, told.trouble) == (1, 0, "")
    assert told.seconds == pytest.approx(3)


def test_it_takes_from_the_first_payload_to_the_end(bench: Bench) -> None:
    peer = Peer(bench)
    peer.to("running")
    bench.server.turn(3)
    peer.streams[0].sendall(BLOCK)
    bench.settle()
    bench.server.turn(4)
    result = answered(peer, len(BLOCK))
    assert result["bytes"] == len(BLOCK)
    assert result["end_time"] == pytest.approx(4)


def test_an_end_before_what_was_to_be_omitted_is_over(bench: Bench) -> None:
    peer = Peer(bench, {"time": 10, "omit": 5})
    peer.to("payload")
    bench.server.turn(2)
    result = answered(peer, 1 << 40)  # so that it waits for more, beyond those 5 s
    assert result["bytes"] == len(BLOCK)
    assert result["end_time"] == pytest.approx(2)


# -- stopping ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(STEPS)[2:-2])
def test_a_server_that_is_stopped_keeps_streams_until_its_client_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """One that sees its stream end before it has read why reports another error."""
    peer = Peer(bench)
    peer.to(step)
    turn = bench.server.turn
    joined = step != "half a stream's cookie" and peer.streams
    blocks = 3 if joined else 0

    def turn_with_a_client(timeout: float | None) -> None:
        nonlocal blocks
        if blocks:
            blocks -= 1
            peer.streams[0].sendall(BLOCK)
        else:
            assert peer.control.recv(1 << 16)[-1] == State.SERVER_TERMINATE
            peer.control.close()
            monkeypatch.undo()
        turn(timeout)

    monkeypatch.setattr(bench.server, "turn", turn_with_a_client)
    before = bench.ring.now
    bench.server.stop()
    assert bench.ring.now == before
    assert [result.trouble for result in bench.told] == ["the server was stopped"]


@pytest.mark.parametrize("step", list(STEPS)[2:-2])
def test_a_client_that_does_not_leave_keeps_a_stopping_server_for_a_moment(
    bench: Bench, step: str
) -> None:
    Peer(bench).to(step)
    before = bench.ring.now
    bench.server.stop()
    assert bench.ring.now - before == pytest.approx(FAREWELL_S)
    assert [result.trouble for result in bench.told] == ["the server was stopped"]


def test_a_test_that_ends_while_its_server_stops_ended_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(bench)
    peer.to("end")
    turn = bench.server.turn
    words = iter([_results(peer), bytes([State.IPERF_DONE])])

    def turn_with_a_client(timeout: float | None) -> None:
        peer.control.sendall(next(words, b""))
        turn(timeout)

    monkeypatch.setattr(bench.server, "turn", turn_with_a_client)
    bench.server.stop()
    assert bench.told[0].trouble == ""


def test_a_card_taken_away_ends_a_server_that_stops(bench: Bench) -> None:
    Peer(bench).to("payload")
    bench.ifq.gone = kernel_error(errno.ENODEV, "receive", "eth0, queue 1")
    bench.server.stop()
    assert [result.trouble for result in bench.told] == ["the server was stopped"]


def test_a_server_without_a_test_stops_at_once(bench: Bench) -> None:
    before = bench.ring.now
    bench.server.stop()
    assert (bench.ring.now, bench.told) == (before, [])

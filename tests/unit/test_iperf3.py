"""iperf3's protocol, sans-I/O: whatever comes in whatever pieces, a session ends with a reason."""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx.bench.iperf3 import (
    MAX_JSON_BYTES,
    NOT_IMPLEMENTED,
    Ended,
    Event,
    Over,
    Parameters,
    ProtocolError,
    Reply,
    ResultsWanted,
    Session,
    Started,
    State,
    framed,
    is_cookie,
)

COOKIE = b"abcdefghijklmnopqrstuvwxyz234567abcd\0"
PARAMETERS = {"tcp": True, "omit": 0, "time": 10, "parallel": 2, "client_version": "3.18"}
RESULTS = {"cpu_util_total": 1.0, "streams": [{"id": 1, "bytes": 500}, {"id": 3, "bytes": 700}]}
STREAM = {"id": 1, "bytes": 500, "jitter": 0, "errors": 0, "packets": 0, "retransmits": -1}


def reply(*states: State) -> Reply:
    return Reply(bytes(states))


def running(parameters: dict[str, Any] = PARAMETERS) -> Session:
    session = Session(COOKIE)
    session.begin()
    session.receive(framed(parameters))
    for _ in range(session.parameters.streams):
        session.stream_joined()
    return session


def test_a_test_from_beginning_to_end() -> None:
    session = Session(COOKIE)
    assert session.begin() == [reply(State.PARAM_EXCHANGE)]
    assert session.receive(framed(PARAMETERS)) == [reply(State.CREATE_STREAMS)]
    assert session.parameters == Parameters(streams=2, time_s=10, client_version="3.18")
    assert session.wants_streams
    assert session.stream_joined() == []
    assert session.stream_joined() == [Started(), reply(State.TEST_START, State.TEST_RUNNING)]
    assert not session.wants_streams
    assert session.receive(bytes([State.TEST_END])) == [Ended(), reply(State.EXCHANGE_RESULTS)]
    assert session.receive(framed(RESULTS)) == [ResultsWanted({1: 500, 3: 700})]
    [answer] = session.results([STREAM], (20.0, 30.0))
    assert isinstance(answer, Reply)
    [size] = struct.unpack(">I", answer.data[:4])
    assert json.loads(answer.data[4 : 4 + size]) == {
        "cpu_util_total": 50.0,
        "cpu_util_user": 20.0,
        "cpu_util_system": 30.0,
        "sender_has_retransmits": -1,
        "streams": [STREAM],
    }
    assert answer.data[4 + size :] == bytes([State.DISPLAY_RESULTS])
    assert session.receive(bytes([State.IPERF_DONE])) == [Over()]
    assert session.over
    assert session.receive(b"more") == []
    assert session.closed() == []


@given(st.data())
def test_pieces_make_no_difference(data: st.DataObject) -> None:
    """The client's bytes up to its results, cut anywhere."""
    session = running()
    stream = bytes([State.TEST_END]) + framed(RESULTS)
    events: list[Event] = []
    while stream:
        n = data.draw(st.integers(1, len(stream)))
        events += session.receive(stream[:n])
        stream = stream[n:]
    assert events == [Ended(), reply(State.EXCHANGE_RESULTS), ResultsWanted({1: 500, 3: 700})]


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10), st.booleans())
def test_garbage_never_raises_and_ends_at_most_once(pieces: list[bytes], early: bool) -> None:
    session = Session(COOKIE) if early else running()
    events = [event for piece in pieces for event in session.receive(piece)]
    events += session.closed()
    overs = [event for event in events if isinstance(event, Over)]
    assert len(overs) == 1
    assert events[-1] == overs[0]
    assert session.over


@pytest.mark.parametrize(
    ("option", "said"),
    [("udp", "UDP"), ("sctp", "SCTP"), ("reverse", "-R"), ("bidirectional", "--bidir")],
)
def test_what_is_not_served_is_refused_in_iperf3s_words(option: str, said: str) -> None:
    session = Session(COOKIE)
    events = session.receive(framed(PARAMETERS | {option: True}))
    assert events == [
        Reply(bytes([State.SERVER_ERROR]) + struct.pack(">II", NOT_IMPLEMENTED, 0)),
        Over(f"{said} is not served"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        [],
        "x",
        None,
        {"parallel": 0},
        {"parallel": 129},
        {"parallel": "8"},
        {"parallel": True},
        {"time": -1},
        {"num": 1.5},
        {"omit": 601},
    ],
)
def test_bad_parameters(message: Any) -> None:
    with pytest.raises(ProtocolError):
        Parameters.of(message)
    session = Session(COOKIE)
    assert isinstance(session.receive(framed(message))[-1], Over)


def test_bytes_and_blocks() -> None:
    assert Parameters.of({"num": 1 << 20}).size_bytes == 1 << 20
    assert Parameters.of({"blockcount": 7}).blocks == 7


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", MAX_JSON_BYTES + 1),
        struct.pack(">I", 3) + b"no!",
        struct.pack(">I", 50000) + b"[" * 50000,
        struct.pack(">I", 8) + b"\xff\xfe\0\xd8\0\xd8\0\0",
        struct.pack(">I", 5000) + b"9" * 5000,
        struct.pack(">I", 0),
    ],
    ids=["too long", "no JSON", "too deep", "no text", "a number", "empty"],
)
def test_what_is_no_message_ends_it(data: bytes) -> None:
    assert isinstance(Session(COOKIE).receive(data)[-1], Over)


@pytest.mark.parametrize("name", ["parallel", "time", "client_version", "udp", "x"])
def test_no_depth_is_too_much(name: str) -> None:
    """Also just below what the JSON parser takes, where others reach the limit."""
    for depth in range(1, sys.getrecursionlimit() + 50):
        text = b'{"%s":%s}' % (name.encode(), b"[" * depth + b"]" * depth)
        session = Session(COOKIE)
        session.receive(struct.pack(">I", len(text)) + text)
        assert session.over or session.wants_streams


@pytest.mark.parametrize("value", ["x" * 60_000, "\x1b[2J\n", 10**4000, -1, [[]], {"a": "b"}])
def test_what_it_says_does_not_fill_the_log(value: Any) -> None:
    [*_, over] = Session(COOKIE).receive(framed({"parallel": value}))
    assert isinstance(over, Over)
    assert len(over.trouble) < 100
    assert over.trouble.isprintable()


def test_results_are_told_once() -> None:
    session = running()
    session.receive(bytes([State.TEST_END]) + framed(RESULTS))
    assert isinstance(session.receive(framed(RESULTS))[-1], Over)
    session = running()
    session.receive(bytes([State.TEST_END]) + framed(RESULTS))
    assert session.receive(bytes([State.CLIENT_TERMINATE])) == [Over("the client was interrupted")]


@pytest.mark.parametrize(
    "results",
    [
        {},
        [],
        {"streams": 1},
        {"streams": [{}]},
        {"streams": [{"id": "x", "bytes": 1}]},
        {"streams": [{"id": 1, "bytes": "1"}]},
        {"streams": [{"id": 1, "bytes": -1}]},
        {"streams": [{"id": 1, "bytes": float("nan")}]},
        {"streams": [{"id": 1, "bytes": float("inf")}]},
        {"streams": [{"id": 10**4000, "bytes": 1}]},
        {"streams": {"id": 1, "bytes": 1}},
    ],
)
def test_results_that_cannot_be_read(results: Any) -> None:
    session = running()
    session.receive(bytes([State.TEST_END]))
    assert session.receive(framed(results))[-1] == Over("its results cannot be read")


def test_an_interrupted_client() -> None:
    assert running().receive(bytes([State.CLIENT_TERMINATE])) == [
        Over("the client was interrupted")
    ]


def test_a_client_that_leaves() -> None:
    assert running().closed() == [Over("the client left while in TEST_RUNNING")]
    session = running()
    session.receive(bytes([State.TEST_END]) + framed(RESULTS))
    session.results([STREAM], (0, 0))
    assert session.closed() == [Over()]


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (COOKIE, True),
        (COOKIE[:-1], False),
        (COOKIE[:-1] + b"x", False),
        (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[:37], False),
        (b"\0" * 37, False),
    ],
)
def test_cookies(data: bytes, good: bool) -> None:
    assert is_cookie(data) is good

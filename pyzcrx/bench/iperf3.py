"""iperf3's server protocol for TCP, client to server: a state machine, sans-I/O.

Every connection to the server's port opens with a cookie of 37 bytes. The first is the
control connection; those that repeat its cookie are the test's streams. On the control
connection states are one byte each, and JSON has its length before it (4 bytes, big endian)::

    client: cookie            server: PARAM_EXCHANGE
    client: parameters        server: CREATE_STREAMS
    client: its streams       server: TEST_START, TEST_RUNNING
    client: TEST_END          server: EXCHANGE_RESULTS
    client: its results       server: its results, DISPLAY_RESULTS
    client: IPERF_DONE

What we cannot serve (UDP, SCTP, reverse, bidirectional) ends with SERVER_ERROR and
iperf3's own number for "not implemented".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

COOKIE_BYTES = 37
MAX_JSON_BYTES = 64 << 10
MAX_STREAMS = 128
MAX_TIME_S = 86400
MAX_AMOUNT = 1 << 63
NOT_IMPLEMENTED = 13
BAD_PARAMETERS = 123
_SHOWN_CHARS = 40
_LENGTH = struct.Struct(">I")
_ERRNOS = struct.Struct(">II")


class State(IntEnum):
    """Bytes on the control connection."""

    TEST_START = 1
    TEST_RUNNING = 2
    TEST_END = 4
    PARAM_EXCHANGE = 9
    CREATE_STREAMS = 10
    SERVER_TERMINATE = 11
    CLIENT_TERMINATE = 12
    EXCHANGE_RESULTS = 13
    DISPLAY_RESULTS = 14
    IPERF_DONE = 16
    ACCESS_DENIED = 255
    SERVER_ERROR = 254


class ProtocolError(ValueError):
    """The client does not speak iperf3, or asks for what we cannot do."""

    def __init__(self, text: str, number: int = BAD_PARAMETERS) -> None:
        super().__init__(text)
        self.number = number


@dataclass(frozen=True)
class Parameters:
    """What the client wants. Seconds, bytes, blocks; 0: not limited by it."""

    streams: int = 1
    time_s: int = 0
    omit_s: int = 0
    size_bytes: int = 0
    blocks: int = 0
    client_version: str = "?"

    @classmethod
    def of(cls, told: Any) -> Parameters:
        """Raises ProtocolError for what we do not serve or understand."""
        if not isinstance(told, dict):
            raise ProtocolError("its parameters are no object")
        for kind, word in (
            ("udp", "UDP"),
            ("sctp", "SCTP"),
            ("reverse", "-R"),
            ("bidirectional", "--bidir"),
        ):
            if told.get(kind):
                raise ProtocolError(f"{word} is not served", NOT_IMPLEMENTED)

        def number(name: str, default: int, least: int, most: int) -> int:
            value = told.get(name, default)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ProtocolError(f"its {name} is {_shown(value)}")
            return value

        version = told.get("client_version")
        return cls(
            streams=number("parallel", 1, 1, MAX_STREAMS),
            time_s=number("time", 0, 0, MAX_TIME_S),
            omit_s=number("omit", 0, 0, 600),
            size_bytes=number("num", 0, 0, MAX_AMOUNT),
            blocks=number("blockcount", 0, 0, MAX_AMOUNT),
            client_version=version[:_SHOWN_CHARS] if isinstance(version, str) else "?",
        )


@dataclass(frozen=True)
class Reply:
    """Send this on the control connection."""

    data: bytes


@dataclass(frozen=True)
class Started:
    """All streams are there: payload comes."""


@dataclass(frozen=True)
class Ended:
    """The client has sent everything."""


@dataclass(frozen=True)
class ResultsWanted:
    """The client told its results: answer by :meth:`Session.results`.

    ``sent_bytes`` is what it sent, by its number of each stream.
    """

    sent_bytes: dict[int, int]


@dataclass(frozen=True)
class Over:
    """The test is over; *trouble* says why, if it did not end as it should."""

    trouble: str = ""


Event = Reply | Started | Ended | ResultsWanted | Over


def stream_result(number: int, size_bytes: int, seconds: float = 0) -> dict[str, Any]:
    """What :meth:`Session.results` wants of a stream; *number* is the client's."""
    return {
        "id": number,
        "bytes": size_bytes,
        "retransmits": -1,
        "jitter": 0,
        "errors": 0,
        "packets": 0,
        "start_time": 0,
        "end_time": seconds,
    }


def framed(message: Any) -> bytes:
    """JSON with its length."""
    data = json.dumps(message).encode()
    return _LENGTH.pack(len(data)) + data


def is_cookie(data: bytes) -> bool:
    """36 printable characters and a NUL."""
    return (
        len(data) == COOKIE_BYTES
        and data[-1] == 0
        and all(0x21 <= byte < 0x7F for byte in data[:-1])
    )


@dataclass
class Session:
    """One test. Bytes and happenings in, events out; after Over nothing more comes."""

    cookie: bytes
    state: State = State.PARAM_EXCHANGE
    parameters: Parameters = field(default_factory=Parameters)
    over: bool = False
    _joined: int = 0
    _answering: bool = False
    """The client told its results and ours are still to come."""
    _pending: bytearray = field(default_factory=bytearray)

    def begin(self) -> list[Event]:
        """Answer the cookie."""
        return [Reply(bytes([State.PARAM_EXCHANGE]))]

    def receive(self, data: bytes) -> list[Event]:
        """Bytes of the control connection, in any pieces."""
        if self.over:
            return []
        self._pending += data
        events: list[Event] = []
        try:
            while not self.over and (step := self._step()) is not None:
                events += step
        except ProtocolError as error:
            self.over = True
            numbers = _ERRNOS.pack(error.number, 0)
            events += [Reply(bytes([State.SERVER_ERROR]) + numbers), Over(str(error))]
        return events

    def stream_joined(self) -> list[Event]:
        """A connection with our cookie came; only while ``wants_streams``."""
        self._joined += 1
        if self._joined < self.parameters.streams:
            return []
        self.state = State.TEST_RUNNING
        return [Started(), Reply(bytes([State.TEST_START, State.TEST_RUNNING]))]

    @property
    def wants_streams(self) -> bool:
        return self.state is State.CREATE_STREAMS and not self.over

    def results(
        self, streams: Sequence[dict[str, Any]], cpu_percent: tuple[float, float]
    ) -> list[Event]:
        """Answer ResultsWanted: a dictionary each stream, user and system time in per cent."""
        user, system = cpu_percent
        message = {
            "cpu_util_total": user + system,
            "cpu_util_user": user,
            "cpu_util_system": system,
            "sender_has_retransmits": -1,
            "streams": list(streams),
        }
        self.state = State.DISPLAY_RESULTS
        self._answering = False
        return [Reply(framed(message) + bytes([State.DISPLAY_RESULTS]))]

    def closed(self) -> list[Event]:
        """The control connection ended."""
        if self.over:
            return []
        self.over = True
        if self.state is State.DISPLAY_RESULTS:  # it has all it wanted
            return [Over()]
        return [Over(f"the client left while in {self.state.name}")]

    def _step(self) -> list[Event] | None:
        """What the pending bytes mean next; None: not enough of them."""
        if not self._answering and self.state in (State.PARAM_EXCHANGE, State.EXCHANGE_RESULTS):
            return self._json()
        if not self._pending:
            return None
        byte = self._pending.pop(0)
        if byte == State.CLIENT_TERMINATE:
            self.over = True
            return [Over("the client was interrupted")]
        if self.state is State.TEST_RUNNING and byte == State.TEST_END:
            self.state = State.EXCHANGE_RESULTS
            return [Ended(), Reply(bytes([State.EXCHANGE_RESULTS]))]
        if self.state is State.DISPLAY_RESULTS and byte == State.IPERF_DONE:
            self.over = True
            return [Over()]
        raise ProtocolError(f"byte {byte} while in {self.state.name}")

    def _json(self) -> list[Event] | None:
        if len(self._pending) < _LENGTH.size:
            return None
        [size] = _LENGTH.unpack_from(self._pending)
        if size > MAX_JSON_BYTES:
            raise ProtocolError(f"a message of {size} bytes")
        if len(self._pending) < _LENGTH.size + size:
            return None
        text = bytes(self._pending[_LENGTH.size : _LENGTH.size + size])
        del self._pending[: _LENGTH.size + size]
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise ProtocolError("what it sent is not JSON") from None
        if self.state is State.PARAM_EXCHANGE:
            self.parameters = Parameters.of(message)
            self.state = State.CREATE_STREAMS
            return [Reply(bytes([State.CREATE_STREAMS]))]
        sent_bytes = dict(_sent(message))
        self._answering = True
        return [ResultsWanted(sent_bytes)]


def _sent(message: Any) -> Iterator[tuple[int, int]]:
    """Number and bytes of each stream in the client's results."""
    try:
        for stream in message["streams"]:
            yield _amount(stream["id"]), _amount(stream["bytes"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ProtocolError("its results cannot be read") from None


def _amount(value: Any) -> int:
    """Large ones come as floats."""
    if not isinstance(value, int | float) or not 0 <= value <= MAX_AMOUNT:
        raise ValueError
    return int(value)


def _shown(value: Any) -> str:
    """A value of the client's for people: short, printable, and not entered, however deep."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."

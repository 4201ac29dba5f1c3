"""An iperf3 server whose streams are received by zcrx.

On a NIC every connection to the port lands in the area, the control connection too, so
all of them are read through the ring. Streams are only counted: no entry of a batch is
looked at.

No peer ends, blocks or starves the server. Each step of a test has its time, which nothing
that a client says makes longer, and payload only as long as it comes. Connections that have
not given a test's cookie leave, the oldest first, before there is no room for others.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pyzcrx._receive.batch import Batch, Run
from pyzcrx._receive.events import Accepted, End, Failed, Limit
from pyzcrx._receive.events import Event as RingEvent
from pyzcrx._receive.request import Request
from pyzcrx._send.accept import Accept
from pyzcrx.bench.iperf3 import (
    COOKIE_BYTES,
    MAX_STREAMS,
    MAX_TIME_S,
    Ended,
    Event,
    Over,
    Reply,
    ResultsWanted,
    Session,
    Started,
    State,
    is_cookie,
    stream_result,
)
from pyzcrx.cli.acceptor import Acceptor, close_by_reset, end, make_room
from pyzcrx.cli.idle import Idle
from pyzcrx.errors import InterfaceGone, KernelError
from pyzcrx.ifq import Ifq
from pyzcrx.ring import Ring

TIMEOUT_S = 20.0
"""For a cookie; for each step before the test's start or after its end; for some payload."""
SETTLE_PART = 0.25
"""Of that, for the last bytes of the streams once the client has said how many it sent."""
FAREWELL_S = 1.0
"""For a client to leave once it was told that the server was stopped."""
STOPPED = "the server was stopped"
"""The trouble of a test that ended so, however its client took it."""
OVERTIME_S = 60.0
"""A test of so many seconds may take so many more; one of bytes or blocks a day and these."""
MAX_CONNECTIONS = 4 * MAX_STREAMS


@dataclass(eq=False)
class Connection:
    """One connection: new until its cookie came, then of a session or about to go."""

    sock: socket.socket
    request: Request | None = None
    head: bytearray = field(default_factory=bytearray)
    role: str = "new"
    """``new``, ``control``, ``stream``, ``counted`` (a stream, its bytes told) or ``leaving``."""
    size_bytes: int = 0


@dataclass(frozen=True)
class TestResult:
    """What came of a test; *trouble* if it did not come to its end."""

    __test__ = False
    streams: int
    size_bytes: int
    seconds: float
    trouble: str = ""


class Iperf3Server:
    """Serves one test at a time; whoever comes meanwhile is told ACCESS_DENIED.

    ``told`` is called with each test's TestResult; a client that is silent for
    ``timeout_s`` where it should speak or send is given up.
    """

    def __init__(
        self,
        ring: Ring,
        ifq: Ifq,
        listener: socket.socket,
        *,
        told: Callable[[TestResult], None],
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._ifq = ifq
        self._told = told
        self._timeout_s = timeout_s
        self._clock = clock
        self._acceptor = Acceptor(ring, listener, make_room(MAX_CONNECTIONS), clock)
        self._connections: set[Connection] = set()
        self._unproven = Idle[Connection](timeout_s, clock)
        """Connections that are new or leaving, the oldest first."""
        self._ending: set[Connection] = set()
        """Those whose request is being cancelled: their descriptors come back in a moment."""
        self._session: Session | None = None
        self._control: Connection | None = None
        self._streams: list[Connection] = []
        self._wanted: ResultsWanted | None = None
        self._deadline = self._last = float("inf")
        """When the session is given up as it is, and when whatever comes."""
        self._began = self._ended = self._omit_until = 0.0
        self._payload = False
        """Whether some came."""
        self._stopped = False
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self.tests = 0
        """How many are over."""

    @property
    def idle(self) -> bool:
        """Whether no connection is left."""
        return not self._connections

    def turn(self, timeout: float | None = None) -> None:
        """Wait for something to happen, at most *timeout* s, and deal with it.

        Raises InterfaceGone once the NIC was taken away.
        """
        batch = self._ring.wait(self._wait_s(timeout))
        now = self._clock()
        self._acceptor.resume()
        if self._omit_until and now >= self._omit_until:
            self._omit_until = 0.0
            self._count_from(now)
        for run in batch.runs():
            connection = run.request.context
            assert isinstance(connection, Connection)
            if connection.role == "stream":
                self._progress(now)
                connection.size_bytes += run.size_bytes
            elif connection.role in ("new", "control"):
                self._read(connection, batch, run)
        batch.release()
        for event in batch.events:
            self._handle(event)
        if self._ifq.gone is not None:
            raise self._ifq.gone
        self._settle(now)
        self._expire(now)

    def _wait_s(self, timeout: float | None) -> float | None:
        """*timeout*, or less where something is due before."""
        now = self._clock()
        waits = [timeout, self._acceptor.wait_s(), self._unproven.wait_s()]
        if self._omit_until:
            waits.append(max(0.0, self._omit_until - now))
        if self._session is not None:
            waits.append(max(0.0, self._deadline - now))
        return min((s for s in waits if s is not None), default=None)

    # -- connections --------------------------------------------------------

    def _handle(self, event: RingEvent) -> None:
        match event:
            case Accepted(fd=fd):
                self._accepted(fd)
            case Failed(request=Accept() as request, error=error):
                self._acceptor.failed(request, error, freeing=bool(self._ending))
            case End(request=request) | Limit(request=request) | Failed(request=request):
                assert isinstance(request, Request)
                self._gone(request)

    def _accepted(self, fd: int) -> None:
        if not self._acceptor.admit(fd, self._staying):
            return
        connection = Connection(socket.socket(fileno=fd))
        try:
            connection.request = self._ifq.receive(fd, context=connection)
        except KernelError:  # it went already; if the NIC did, the turn says so
            connection.sock.close()
            return
        self._connections.add(connection)
        self._unproven.touch(connection)
        oldest = self._unproven.longest
        crowded = 4 * self._staying > 3 * self._acceptor.most
        if crowded and oldest is not None and oldest is not connection:
            close_by_reset(oldest.sock.fileno())
            self._leave(oldest)

    @property
    def _staying(self) -> int:
        return len(self._connections) - len(self._ending)

    def _gone(self, request: Request) -> None:
        """Its request is over, so that its descriptor may be closed."""
        connection = request.context
        assert isinstance(connection, Connection)
        connection.sock.close()
        self._connections.discard(connection)
        self._ending.discard(connection)
        self._unproven.forget(connection)
        if connection is self._control and self._session:
            self._do(self._session.closed())

    def _leave(self, connection: Connection) -> None:
        """Close it, once its request has ended."""
        connection.role = "leaving"
        self._unproven.forget(connection)
        if connection.request is not None and connection in self._connections:
            self._ending.add(connection)
            end(connection.request)

    def _read(self, connection: Connection, batch: Batch, run: Run) -> None:
        for i in range(run.start, run.stop):
            data = bytes(batch.view(run.request, i))
            if connection.role == "new":
                connection.head += data
                if len(connection.head) >= COOKIE_BYTES:
                    rest = bytes(connection.head[COOKIE_BYTES:])
                    self._greet(connection, bytes(connection.head[:COOKIE_BYTES]))
                    data = rest
                else:
                    continue
            if connection.role == "stream":
                connection.size_bytes += len(data)
            elif connection is self._control and self._session and data:
                self._do(self._session.receive(data))

    def _greet(self, connection: Connection, cookie: bytes) -> None:
        """A cookie came: a new test, a stream of the one that runs, or nobody we know."""
        if not is_cookie(cookie):
            self._leave(connection)
        elif self._session is None:
            connection.role = "control"
            self._unproven.forget(connection)
            self._control = connection
            self._session = Session(cookie)
            self._streams = []
            self._wanted = None
            self._began = self._ended = self._omit_until = 0.0
            self._payload = False
            self._last = float("inf")
            self._deadline = self._clock() + self._timeout_s
            self._do(self._session.begin())
        elif self._session.wants_streams and cookie == self._session.cookie:
            connection.role = "stream"
            self._unproven.forget(connection)
            self._streams.append(connection)
            self._do(self._session.stream_joined())
        else:
            self._say(connection, bytes([State.ACCESS_DENIED]))
            connection.role = "leaving"
            self._unproven.touch(connection)  # the client closes when it has read that

    @staticmethod
    def _say(connection: Connection, data: bytes) -> bool:
        """Control messages are short: they fit, or nobody reads."""
        try:
            sent = connection.sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return sent == len(data)

    # -- the test -----------------------------------------------------------

    def _do(self, events: list[Event]) -> None:
        assert self._session is not None
        session = self._session
        assert self._control is not None
        for event in events:
            match event:
                case Reply(data=data):
                    if not self._say(self._control, data) and not session.over:
                        self._do(session.closed())
                        return
                case Started():
                    self._start(session, self._clock())
                case Ended():
                    self._ended = self._clock()
                    self._omit_until = 0.0
                    self._deadline = self._ended + self._timeout_s
                case ResultsWanted():
                    self._wanted = event
                    self._deadline = self._clock() + SETTLE_PART * self._timeout_s
                case Over(trouble=trouble):
                    self._finish(trouble)

    def _start(self, session: Session, now: float) -> None:
        wanted = session.parameters
        self._last = now + (wanted.time_s or MAX_TIME_S) + wanted.omit_s + OVERTIME_S
        self._deadline = min(now + self._timeout_s, self._last)
        self._count_from(now)

    def _progress(self, now: float) -> None:
        """Payload comes, from the first on of which the client's clock runs.

        That may be a good while after it was told to start.
        """
        session = self._session
        if session is None or session.state is not State.TEST_RUNNING:
            return
        self._deadline = min(now + self._timeout_s, self._last)
        if not self._payload:
            self._payload = True
            self._count_from(now)
            if session.parameters.omit_s:
                self._omit_until = now + session.parameters.omit_s

    def _count_from(self, now: float) -> None:
        self._began = now
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        for stream in self._streams:
            stream.size_bytes = 0

    def _settle(self, now: float) -> None:
        """Tell our results, once all that the client sent has come (or time is up)."""
        if self._wanted is None or self._session is None:
            return
        sent = list(self._wanted.sent_bytes.values())
        received = [stream.size_bytes for stream in self._streams]
        exact = not self._session.parameters.omit_s and len(sent) == len(received)
        if exact and now < self._deadline and any(map(int.__lt__, received, sent)):
            return
        numbers, self._wanted = list(self._wanted.sent_bytes), None
        seconds = max(self._ended - self._began, 1e-6)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        user = 100 * (usage.ru_utime - self._usage.ru_utime) / seconds
        system = 100 * (usage.ru_stime - self._usage.ru_stime) / seconds
        results = [
            stream_result(number, stream.size_bytes, seconds)
            for number, stream in zip(numbers, self._streams, strict=False)
        ]
        # A block that the end cut off may still come, but both sides report what was told.
        for stream in self._streams:
            stream.role = "counted"
        self._deadline = now + self._timeout_s
        self._do(self._session.results(results, (user, system)))

    def _expire(self, now: float) -> None:
        for connection in self._unproven.due():
            self._leave(connection)
        if self._session is not None and now >= self._deadline:
            self._finish(f"the client fell silent in {self._session.state.name}")

    def _finish(self, trouble: str) -> None:
        if self._stopped and trouble:
            trouble = STOPPED
        seconds = (self._ended or self._clock()) - self._began if self._began else 0.0
        size_bytes = sum(stream.size_bytes for stream in self._streams)
        result = TestResult(len(self._streams), size_bytes, seconds, trouble)
        assert self._control is not None
        for connection in (self._control, *self._streams):
            self._leave(connection)
        self._session = self._control = self._wanted = None
        self._streams = []
        self._omit_until = 0.0
        self.tests += 1
        self._told(result)

    def stop(self) -> None:
        """End a test that runs, its client first. Before the ring is closed.

        A client that is told goes by itself. One whose streams end before it has read that sees
        an error of writing instead, so they are received on until then, for FAREWELL_S at most.
        """
        self._acceptor.stop()
        if self._session is None or self._control is None:
            return
        if self._session.state is State.DISPLAY_RESULTS:  # the client has all it wanted
            self._finish("")
            return
        self._stopped = True
        self._say(self._control, bytes([State.SERVER_TERMINATE]))
        until = self._clock() + FAREWELL_S
        with suppress(InterfaceGone):
            while self._session is not None and (left_s := until - self._clock()) > 0:
                self.turn(left_s)
        if self._session is not None:
            self._finish(STOPPED)

    def close(self) -> None:
        """Close every connection; the ring, closed before, has ended their requests."""
        for connection in self._connections:
            connection.sock.close()
        self._connections.clear()
        self._ending.clear()
        self._acceptor.close()

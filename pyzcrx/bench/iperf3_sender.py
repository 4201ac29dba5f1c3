"""Stock iperf3 as the sender: its control connection is answered here, its streams handed on.

iperf3 connects all of them to one port and begins each with a cookie. So they are accepted
here, the cookies read, and the receiver inherits sockets on which payload is all that comes.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pyzcrx.bench.iperf3 import (
    COOKIE_BYTES,
    MAX_STREAMS,
    Event,
    Over,
    Reply,
    ResultsWanted,
    Session,
    Started,
)
from pyzcrx.bench.plan import BenchError, Plan

IPERF3 = "iperf3"
PATIENCE_S = 300.0


class Iperf3Sender:
    """One run of ``iperf3 -c`` as *plan* has it: stopped before its first byte until :meth:`run`.

    *prepare* runs in its process before it does.
    """

    def __init__(self, plan: Plan, prepare: Callable[[], None] | None) -> None:
        family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
        self._listener = socket.create_server(
            (plan.host, plan.ports[0]), family=family, backlog=MAX_STREAMS + 1
        )
        self._listener.settimeout(PATIENCE_S)
        port = self._listener.getsockname()[1]
        prefix = ["ip", "netns", "exec", plan.netns] if plan.netns else []
        self._process = subprocess.Popen(
            [*prefix, IPERF3, "-c", plan.host, "-p", str(port), "-P", str(plan.connections),
             "-n", str(plan.size_bytes)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=prepare,
        )  # fmt: skip
        self._control: socket.socket | None = None
        self._streams: list[socket.socket] = []
        self._go = b""
        self._sent_bytes = 0
        self._over = False

    def streams(self) -> list[int]:
        """Descriptors of its connections, to be inherited, then given to :meth:`run`'s care."""
        try:
            self._control = self._accepted()
            self._session = Session(_exactly(self._control, COOKIE_BYTES))
            self._do(self._session.begin())
            while not self._session.wants_streams:
                self._hear()
            while not self._go:
                stream = self._accepted()
                self._streams.append(stream)
                if _exactly(stream, COOKIE_BYTES) != self._session.cookie:
                    raise BenchError("a stranger connected to iperf3's port")
                stream.setblocking(True)  # the receiver inherits that, too
                self._do(self._session.stream_joined())
        except OSError as error:
            raise self._failed(str(error)) from None
        return [stream.fileno() for stream in self._streams]

    def run(self) -> int:
        """Let it send, to its end; gives the bytes that it says it sent, in whole blocks."""
        for stream in self._streams:  # the receiver has them
            stream.close()
        assert self._control is not None
        try:
            self._control.sendall(self._go)
            while not self._over:
                self._hear()
        except OSError as error:
            raise self._failed(str(error)) from None
        if self._process.wait(PATIENCE_S):
            raise self._failed("")
        return self._sent_bytes

    def _accepted(self) -> socket.socket:
        sock, _ = self._listener.accept()
        sock.settimeout(PATIENCE_S)
        return sock

    def _hear(self) -> None:
        assert self._control is not None
        data = self._control.recv(1 << 16)
        self._do(self._session.receive(data) if data else self._session.closed())

    def _do(self, events: list[Event]) -> None:
        assert self._control is not None
        started = False
        for event in events:
            match event:
                case Started():
                    started = True
                case Reply(data=data) if started:
                    self._go = data
                case Reply(data=data):
                    self._control.sendall(data)
                case ResultsWanted(sent_bytes=sent):
                    self._sent_bytes = sum(sent.values())
                    # What the receiver got it tells itself.
                    told = [{"id": n, "bytes": size, "retransmits": -1, "jitter": 0, "errors": 0,
                             "packets": 0} for n, size in sent.items()]  # fmt: skip
                    self._do(self._session.results(told, (0, 0)))
                case Over(trouble=trouble):
                    if trouble:
                        raise self._failed(trouble)
                    self._over = True

    def _failed(self, why: str) -> BenchError:
        said = self._end().strip().splitlines()
        return BenchError(f"iperf3: {said[-1] if said else why or 'it failed'}")

    def _end(self) -> str:
        """Have it end, and give what it printed."""
        self._process.kill()
        assert self._process.stdout is not None
        with self._process:
            return "" if self._process.stdout.closed else self._process.stdout.read()

    def close(self) -> None:
        """End it, wherever it is."""
        self._end()
        for sock in (self._listener, self._control, *self._streams):
            if sock is not None:
                sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _exactly(sock: socket.socket, n: int) -> bytes:
    """So many bytes, and none of what comes after them."""
    data = sock.recv(n, socket.MSG_WAITALL)
    if len(data) < n:
        raise OSError("a connection ended within its cookie")
    return data

"""Stock iperf3 as the sender: its control connection is answered here, its streams handed on.

iperf3 connects all of them to one port and begins each with a cookie. So they are accepted
here, the cookies read, and the receiver inherits sockets on which payload is all that comes.

From then on the control connection, which comes by the same queue, lies in the receiver's
area too and cannot be read here. It need not be: the one thing to wait for is that TEST_END
arrives, our answers to all that follows can be given at once, and how much was sent is in
the report that iperf3 prints.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
from typing import Any

from pyzcrx._common.leaving import Closing
from pyzcrx._kernel import endpoint
from pyzcrx.bench.begin import begin
from pyzcrx.bench.iperf3 import (
    COOKIE_BYTES,
    MAX_STREAMS,
    Event,
    Over,
    Reply,
    Session,
    Started,
    State,
    stream_result,
)
from pyzcrx.bench.plan import Plan, SenderFailed

IPERF3 = "iperf3"
TIMEOUT_S = 300.0
_LOOK_S = 0.2


class Iperf3Sender(Closing):
    """One run of ``iperf3 -c`` as *plan* has it: stopped before its first byte until :meth:`run`.

    No ifq may be bound to the queue that it comes by. *cpu*: where it runs.
    """

    def __init__(self, plan: Plan, cpu: int | None) -> None:
        self._listener = endpoint.listen(plan.host, plan.ports[0], MAX_STREAMS + 1)
        port = self._listener.getsockname()[1]
        prefix = ["ip", "netns", "exec", plan.netns] if plan.netns else []
        argv = [
            *prefix,
            IPERF3,
            "-c",
            plan.connect_to,
            "-p",
            str(port),
            "-P",
            str(plan.connections),
            "-n",
            str(plan.size_bytes),
            "-J",
        ]
        self._control: socket.socket | None = None
        self._streams: list[socket.socket] = []
        self._go = b""
        self._begun: list[subprocess.Popen[str]] = []
        try:
            begin(self._begun, argv, cpu, stderr=subprocess.STDOUT)
        except BaseException:
            self.close()
            raise

    @property
    def _process(self) -> subprocess.Popen[str]:
        """The only one that is begun, once it is."""
        return self._begun[0]

    def streams(self) -> list[int]:
        """Descriptors of its connections, for the receiver to inherit before :meth:`run`."""
        try:
            self._control = self._accepted()
            self._session = session = Session(_exactly(self._control, COOKIE_BYTES))
            self._do(session.begin())
            while not session.wants_streams:
                data = self._control.recv(1 << 16)
                self._do(session.receive(data) if data else session.closed())
            while not self._go:
                stream = self._accepted()
                self._streams.append(stream)
                if _exactly(stream, COOKIE_BYTES) != session.cookie:
                    raise SenderFailed("a stranger connected to iperf3's port")
                stream.setblocking(True)  # the receiver inherits that, too
                self._do(session.stream_joined())
        except OSError as error:
            raise self._failed(str(error)) from None
        return [stream.fileno() for stream in self._streams]

    def run(self) -> int:
        """Let it send, to its end; gives the bytes that it says it sent, in whole blocks."""
        for stream in self._streams:  # the receiver has them
            stream.close()
        assert self._control is not None
        # iperf3 numbers its streams so; what came by them the receiver tells itself.
        numbers = [1, *range(3, len(self._streams) + 2)]
        results = self._session.results([stream_result(n, 0) for n in numbers], (0, 0))
        try:
            self._control.sendall(self._go)
            if not select.select([self._control], [], [], TIMEOUT_S)[0]:
                raise self._failed(f"it did not end within {TIMEOUT_S:.0f} s")
            self._control.sendall(bytes([State.EXCHANGE_RESULTS]))
            self._do(results)
            said = self._process.communicate(timeout=TIMEOUT_S)[0]
        except OSError as error:
            raise self._failed(str(error)) from None
        report = _report(said)
        if self._process.returncode or "error" in report or "end" not in report:
            raise SenderFailed(f"iperf3: {report.get('error', 'it failed')}")
        return int(report["end"]["sum_sent"]["bytes"])

    def _accepted(self) -> socket.socket:
        while not select.select([self._listener], [], [], _LOOK_S)[0]:
            if self._process.poll() is not None:
                raise OSError("it ended before it had connected")
        sock, _ = self._listener.accept()
        sock.settimeout(TIMEOUT_S)
        return sock

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
                case Over(trouble=trouble):
                    raise self._failed(trouble)

    def _failed(self, why: str) -> SenderFailed:
        return SenderFailed(f"iperf3: {_report(self._end()).get('error', why)}")

    def _end(self) -> str:
        """Have it end, and give what it printed."""
        said = ""
        for process in self._begun:
            process.kill()
            assert process.stdout is not None
            with process:
                said += "" if process.stdout.closed else process.stdout.read()
        return said

    def close(self) -> None:
        """End it, wherever it is."""
        self._end()
        for sock in (self._listener, self._control, *self._streams):
            if sock is not None:
                sock.close()


def _exactly(sock: socket.socket, n: int) -> bytes:
    """So many bytes, and none of what comes after them."""
    data = sock.recv(n, socket.MSG_WAITALL)
    if len(data) < n:
        raise OSError("a connection ended within its cookie")
    return data


def _report(text: str) -> dict[str, Any]:
    """What ``iperf3 -J`` printed; lines that are no report as its error."""
    try:
        told = json.loads(text)
    except ValueError:
        lines = text.strip().splitlines()
        return {"error": lines[-1]} if lines else {}
    return told if isinstance(told, dict) else {}

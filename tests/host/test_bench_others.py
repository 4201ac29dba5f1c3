"""zcrx-bench with programs of others: liburing's example, iperf3. Stand-ins, with real sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyzcrx.bench.iperf3 import State
from pyzcrx.bench.iperf3_sender import Iperf3Sender
from pyzcrx.bench.job import ReceiveJob
from pyzcrx.bench.plan import BenchError, Plan
from pyzcrx.bench.ports import Ports
from tests.patience import START_S

EXAMPLE = """#!{python}
# Speaks as examples/zcrx.c does, and waits on a ring as it does.
import os, socket, sys, time
import pyzcrx
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
with pyzcrx.Ring() as ring:
    ring.accept(listener)
    fd = next(ring.events()).fd
print("socket accepted: fd 5, Peer IP ::1, Peer port 1", flush=True)
n = 0
while data := os.read(fd, 1000):
    n += len(data)
print(f"Connection terminated: received {{n}}, cqes 7, nr requeues 1", flush=True)
os.close(fd)
time.sleep({stays})
"""

IPERF3 = """#!{python}
import json, socket, struct, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
at, cookie = (options["-c"], int(options["-p"])), b"c" * 36 + b"\\0"
def connect():
    sock = socket.create_connection(at)
    sock.sendall(cookie)
    return sock
def framed(text):
    return struct.pack(">I", len(text)) + text
control = connect()
assert control.recv(1) == bytes([{exchange}])
control.sendall(framed(b'{{"parallel": 2}}'))
assert control.recv(1) == bytes([{create}])
streams = [connect(), connect()]
assert control.recv(2, socket.MSG_WAITALL) == bytes([{start}, {running}])
for stream in streams:
    stream.sendall(bytes(1000))
{then}
control.sendall(bytes([{end}]))
assert control.recv(1) == bytes([{results}])
control.sendall(framed(b"{{}}"))
size, = struct.unpack(">I", control.recv(4, socket.MSG_WAITALL))
told = json.loads(control.recv(size, socket.MSG_WAITALL))
assert [each["id"] for each in told["streams"]] == [1, 3]
assert control.recv(1) == bytes([{display}])
control.sendall(bytes([{done}]))
print(json.dumps({{"end": {{"sum_sent": {{"bytes": 1900}}}}}}))
"""


def program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def receiving(made: str) -> subprocess.Popen[str]:
    """The example's process, as zcrx-bench begins it."""
    with Ports("127.0.0.1", 1) as ports:
        job = ReceiveJob("liburing", "127.0.0.1", ports.numbers[0], interface="lo", program=made)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pyzcrx.bench.receive", job.to_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("stays", [0, 1000])
def test_the_example_is_measured_from_its_connection_on(tmp_path: Path, stays: int) -> None:
    made = program(tmp_path / "zcrx", EXAMPLE.format(python=sys.executable, stays=stays))
    with receiving(made) as receiver:
        assert receiver.stderr is not None
        said = receiver.stderr.readline()
        assert said.startswith("listening on 127.0.0.1 port "), said
        with socket.create_connection(("127.0.0.1", int(said.split()[-1]))) as client:
            client.sendall(bytes(12345))
        out, err = receiver.communicate(timeout=START_S)
    assert (receiver.returncode, err) == (0, "")
    figures = json.loads(out)
    assert (figures["bytes"], figures["chunks"], figures["rearms"]) == (12345, 7, 1)
    assert 0 < figures["seconds"] < START_S
    assert min(figures[name] for name in ("user_s", "system_s", "waits", "preemptions")) >= 0


@pytest.mark.parametrize("text", ["io_uring_register_ifq(): -95", "Interface is not specified"])
def test_an_example_that_fails_says_why(tmp_path: Path, text: str) -> None:
    made = program(tmp_path / "zcrx", f"#!/bin/sh\necho '{text}' >&2; exit 1\n")
    with receiving(made) as receiver:
        _, err = receiver.communicate(timeout=START_S)
    assert (receiver.returncode, err) == (1, f"liburing: {text}\n")


def fake_iperf3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> Plan:
    names = {
        "exchange": State.PARAM_EXCHANGE,
        "create": State.CREATE_STREAMS,
        "start": State.TEST_START,
        "running": State.TEST_RUNNING,
        "end": State.TEST_END,
        "results": State.EXCHANGE_RESULTS,
        "display": State.DISPLAY_RESULTS,
        "done": State.IPERF_DONE,
    }
    values = {name: int(state) for name, state in names.items()}
    program(tmp_path / "iperf3", IPERF3.format(python=sys.executable, then=then, **values))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Plan(("columns",), size_bytes=2000, connections=2)


def test_iperf3_sends_once_its_streams_are_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = fake_iperf3(tmp_path, monkeypatch)
    with Iperf3Sender(plan, None) as sender:
        streams = [socket.socket(fileno=socket.dup(fd)) for fd in sender.streams()]
        for stream in streams:  # nothing but payload will come, and none yet
            with pytest.raises(BlockingIOError):
                stream.recv(1, socket.MSG_DONTWAIT)
        assert sender.run() == 1900
        for stream in streams:
            with stream:
                assert stream.recv(5000, socket.MSG_WAITALL) == bytes(1000)


def test_an_iperf3_that_breaks_off_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = "print(json.dumps(dict(error='no more'))); sys.exit(1)"
    plan = fake_iperf3(tmp_path, monkeypatch, then)
    with Iperf3Sender(plan, None) as sender:
        assert len(sender.streams()) == 2
        with pytest.raises(BenchError, match=r"^iperf3: .*no more$"):
            sender.run()

"""``zcrx-bench`` in the guest: receivers compared, and stock iperf3 against our server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from pyzcrx.bench.iperf3 import State, framed
from tests.guest import program
from tests.guest.card import CARD, Pair, connect
from tests.guest.program import Program
from tests.patience import SLOW, START_S

PATIENCE_S = 120 * SLOW
QUICK = ("--rounds", "1", "--size", "2M")
BLOCK_BYTES = 128 << 10
PLACE = (*CARD.place, "--no-setup-nic") if CARD.place else ()
COOKIE = b"abcdefghijklmnopqrstuvwxyz234567abcd\0"


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    netns = ("--sender-netns", CARD.netns) if isinstance(CARD, Pair) else ()
    return program.run(
        "zcrx-bench", *PLACE, "--host", CARD.server, *netns, *options, timeout=10 * START_S
    )


def test_every_python_receiver_gets_every_byte() -> None:
    done = bench("--json", *QUICK)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"columns", "chunks", "buffers", "recv_into-64K", "asyncio", "mapped"} <= report[
        "runs"
    ].keys()
    for name, [run] in report["runs"].items():
        assert run["bytes"] == 2 << 20, name
        assert run["chunks"] > 0
    assert report["echo_ns"] == {}
    [columns] = report["runs"]["columns"]
    assert CARD.bench_says(columns["copied"])
    assert report["setup"]["pinned"] == {"receiver": 1, "sender": 0, "napi": 0}
    CARD.queue_free()


def test_echoes_bring_every_byte_back() -> None:
    names = ("echo", "echo-copied", "echo-zero-copy", "relay-copied", "relay-zero-copy")
    chosen = [option for name in names for option in ("-r", name)]
    done = bench("--json", *QUICK, "--connections", "3", "--read", *chosen)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    copied = {name: run["copied"] for name, [run] in report["runs"].items()}
    assert copied.keys() == set(names)
    if CARD.zero_copy:
        assert copied["echo-zero-copy"] < 0.01
        assert copied["relay-zero-copy"] < 0.01
        assert copied["echo-copied"] >= 1
        assert copied["relay-copied"] >= 1
    CARD.queue_free()


def test_round_trips() -> None:
    done = bench("--json", *QUICK, "--echo-rounds", "5", "-r", "columns", "-r", "epoll")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name: len(took) for name, took in report["echo_ns"].items()} == {
        "columns": 5,
        "epoll": 5,
    }
    assert min(report["echo_ns"]["columns"]) > 0
    CARD.queue_free()


def test_connections_that_come_and_go() -> None:
    names = ("columns", "buffers", "aio-streams", "epoll")
    chosen = [option for name in names for option in ("-r", name)]
    done = bench("--json", "--rounds", "1", "--short", "20", "--connections", "6", *chosen)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert {name: run["bytes"] for name, [run] in runs.items()} == dict.fromkeys(names, 20 * 4096)
    CARD.queue_free()


@pytest.mark.parametrize("how", ["send", "zerocopy", "iperf3"])
def test_several_connections_and_other_senders(how: str) -> None:
    done = bench(
        "--json",
        *QUICK,
        "--connections",
        "5",
        "--sender",
        how,
        "--read",
        "-r",
        "columns",
        "-r",
        "chunks",
        "-r",
        "buffers",
        "-r",
        "recv_into-64K",
    )
    assert done.returncode == 0, done.stderr
    for [run] in json.loads(done.stdout)["runs"].values():
        if how == "iperf3":  # it sends whole blocks, by all of its connections until it has all
            assert 2 << 20 <= run["bytes"] <= (2 << 20) + 5 * BLOCK_BYTES
        else:
            assert run["bytes"] == 2 << 20
    CARD.queue_free()


def test_a_process_for_each_queue_adds_up() -> None:
    done = bench(
        "--json",
        *QUICK,
        "--queues",
        "2",
        "--connections",
        "2",
        "-r",
        "recv_into-64K",
        *(() if CARD.zero_copy else ("-r", "columns")),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["setup"]["queues"] == 2
    for [run] in report["runs"].values():
        assert (run["bytes"], run["bytes_by_queue"]) == (2 << 20, [1 << 20, 1 << 20])
    # Of two CPUs one is the sender's.
    assert report["setup"]["pinned"]["receiver"] == [1, 1]
    assert any("share CPU 1" in problem for problem in report["problems"])


def test_the_table_names_what_did_not_run() -> None:
    done = bench(*QUICK, "-r", "recv_into-64K", "-r", "c")
    assert done.returncode == 0, done.stderr
    assert "no zcrx-c-receiver" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_receiver_that_fails_is_one_line() -> None:
    done = bench(*QUICK, "-r", "columns", "--rx-buf-len", "12345")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("zcrx-bench: columns: ")
    assert done.stderr.count("columns: ") == 1


def test_a_server_on_a_card_that_is_none_is_one_line() -> None:
    done = program.run("zcrx-bench", "--serve-iperf3", "-p", "0", "-i", "nosuch0")
    assert done.returncode == 1
    assert done.stderr.startswith("zcrx-bench: ")
    assert done.stderr.count("\n") == 1


class Served:
    """A running ``zcrx-bench --serve-iperf3``."""

    def __init__(
        self, timeout_s: float = 120 * SLOW, *, start: Callable[..., Any] = Program
    ) -> None:
        self.process = start(
            "zcrx-bench",
            "--serve-iperf3",
            "--json",
            "--timeout",
            str(timeout_s),
            "-p",
            "0",
            *PLACE,
        )
        line = self.process.stderr.readline()
        assert "listening on" in line, line + self.process.stderr.read()
        self.port = int(line.split(" port ")[1].split()[0])

    def client(self, *options: str) -> list[str]:
        return [*CARD.client_prefix, "iperf3", "-c", CARD.server, "-p", str(self.port), *options]

    def iperf3(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.client(*options), capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def connect(self) -> socket.socket:
        return connect(self.port)

    def stop(self) -> list[dict[str, Any]]:
        """End it, which must be clean; what it told of each test."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=START_S)
        assert self.process.returncode == 0, err
        figures = json.loads(err.splitlines()[-1])
        assert figures["held_buffers"] == 0
        return [json.loads(line) for line in out.splitlines()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(START_S)
        self.process.close()
        CARD.queue_free()


@pytest.fixture
def served() -> Iterator[Served]:
    with closing(Served()) as server:
        yield server


@pytest.mark.parametrize(
    ("options", "streams"),
    [
        (("-t", "1"), 1),
        (("-t", "2", "-P", "8"), 8),
        (("-n", "8M"), 1),
        (("-k", "20"), 1),
        (("-t", "2", "-O", "1"), 1),
    ],
    ids=["time", "8 streams", "bytes", "blocks", "omit"],
)
def test_stock_iperf3_ends_as_it_should(
    served: Served, options: tuple[str, ...], streams: int
) -> None:
    done = served.iperf3("-J", *options)
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert "error" not in report
    received = report["end"]["sum_received"]["bytes"]
    assert received > 0
    sent = report["end"]["sum_sent"]["bytes"]
    if options[0] in ("-n", "-k"):
        assert received == sent
    elif "-O" not in options:  # iperf3 counts whole blocks only, its last ones were cut off
        assert 0 <= received - sent <= streams * BLOCK_BYTES
    [told] = served.stop()
    assert (told["streams"], told["size_bytes"], told["trouble"]) == (streams, received, "")


def test_a_client_that_falls_silent_is_given_up() -> None:
    with closing(Served(timeout_s=5 * SLOW)) as served, served.connect() as control:
        control.sendall(COOKIE)
        with control.makefile("rb") as reply:
            assert reply.read() == bytes([State.PARAM_EXCHANGE])  # and the end
        told = json.loads(served.process.stdout.readline())
    assert told["trouble"] == "the client fell silent in PARAM_EXCHANGE"


def test_what_comes_after_the_results_is_not_counted(served: Served) -> None:
    with served.connect() as control, served.connect() as stream, control.makefile("rb") as reply:
        control.sendall(COOKIE)
        assert reply.read(1) == bytes([State.PARAM_EXCHANGE])
        control.sendall(framed({"tcp": True, "time": 1}))
        assert reply.read(1) == bytes([State.CREATE_STREAMS])
        stream.sendall(COOKIE)
        assert reply.read(2) == bytes([State.TEST_START, State.TEST_RUNNING])
        stream.sendall(bytes(50_000))
        control.sendall(bytes([State.TEST_END]))
        assert reply.read(1) == bytes([State.EXCHANGE_RESULTS])
        control.sendall(framed({"streams": [{"id": 1, "bytes": 50_000}]}))
        results = json.loads(reply.read(int.from_bytes(reply.read(4), "big")))
        assert [each["bytes"] for each in results["streams"]] == [50_000]
        assert reply.read(1) == bytes([State.DISPLAY_RESULTS])
        stream.sendall(bytes(30_000))
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""  # it has read them all
        control.sendall(bytes([State.IPERF_DONE]))
        told = json.loads(served.process.stdout.readline())
    assert (told["size_bytes"], told["trouble"]) == (50_000, "")


def test_its_plain_report(served: Served) -> None:
    done = served.iperf3("-n", "4M")
    assert done.returncode == 0, done.stderr
    assert "iperf Done." in done.stdout
    assert "receiver" in done.stdout


@pytest.mark.parametrize("option", ["-R", "-u", "--bidir"])
def test_what_is_not_served_is_refused_and_the_next_is_served(served: Served, option: str) -> None:
    done = served.iperf3("-t", "1", option)
    assert done.returncode == 1
    assert "not implemented" in done.stderr
    assert served.iperf3("-n", "1M").returncode == 0


def test_a_second_client_is_told_that_we_are_busy(served: Served) -> None:
    with subprocess.Popen(
        served.client("-t", "60", "--forceflush", "-i", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as first:
        assert first.stdout is not None
        while "/sec" not in (line := first.stdout.readline()):
            assert line
        second = served.iperf3("-t", "1")
        assert second.returncode == 1
        assert "busy" in second.stderr
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=START_S)
    assert served.iperf3("-n", "1M").returncode == 0
    told = served.stop()
    assert [test["trouble"] for test in told] == ["the client was interrupted", ""]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" + b"x" * 9,
        COOKIE + b"\xff\xff\xff\xff",
        COOKIE + b"\0\0\0\x02{}",
        COOKIE[:10],
    ],
    ids=["nothing", "no iperf3", "too long", "then nothing", "half a cookie"],
)
def test_bad_clients_harm_nobody(served: Served, data: bytes) -> None:
    with served.connect() as sock:
        sock.sendall(data)
    with served.connect() as sock:  # and one that resets
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    while served.iperf3("-n", "1M").returncode:  # the reset may still be on its way
        assert served.process.poll() is None
    assert served.stop()[-1]["trouble"] == ""


def test_a_client_that_is_killed_in_the_middle(served: Served) -> None:
    with subprocess.Popen(
        served.client("-t", "60", "-P", "4", "--forceflush", "-i", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as first:
        assert first.stdout is not None
        while "/sec" not in (line := first.stdout.readline()):
            assert line
        first.kill()
    assert json.loads(served.process.stdout.readline())["trouble"]
    assert served.iperf3("-n", "1M").returncode == 0


def test_a_server_that_is_stopped_tells_its_client(served: Served) -> None:
    with subprocess.Popen(
        served.client("-t", "60", "--forceflush", "-i", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        while "/sec" not in (line := client.stdout.readline()):
            assert line
        [told] = served.stop()
        assert told["trouble"] == "the server was stopped"
        assert client.wait(START_S) == 1
        assert client.stderr is not None
        assert "the server has terminated" in client.stderr.read()


def test_a_server_for_one_test() -> None:
    with Program("zcrx-bench", "--serve-iperf3", "--once", "-p", "0", *PLACE) as server:
        port = server.stderr.readline().split(" port ")[1].split()[0]
        client = [*CARD.client_prefix, "iperf3", "-c", CARD.server, "-p", port, "-n", "1M"]
        assert subprocess.run(client, check=False, capture_output=True).returncode == 0
        assert server.wait(START_S) == 0
        assert "1 streams" in server.stderr.read()
    CARD.queue_free()

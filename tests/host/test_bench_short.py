"""Connections that come and go, by receivers that need no zcrx: real sockets over loopback."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pyzcrx.bench.job import SHORT_BYTES, SendJob
from pyzcrx.bench.pinning import Pinning
from pyzcrx.bench.plan import BenchError, Plan
from pyzcrx.bench.ports import Ports
from pyzcrx.bench.receivers.catalogue import ALL, RECEIVERS, C, takes_short
from pyzcrx.bench.rounds import Rounds, unavailable
from pyzcrx.cli.bench import main

PLAIN = tuple(name for name, receiver in RECEIVERS.items() if receiver.short and not receiver.zcrx)
PLAN = Plan(PLAIN, rounds=1, size_bytes=7 * SHORT_BYTES, connections=3, short=7)
PINNING = Pinning.choose(None, None, None, 1)


@pytest.mark.parametrize("name", PLAIN)
def test_each_connection_is_read_to_its_end(name: str) -> None:
    with Ports("127.0.0.1", 1) as ports:
        run = Rounds(dataclasses.replace(PLAN, ports=ports.numbers), PINNING).run(name)
    assert run["bytes"] == 7 * SHORT_BYTES
    assert run["chunks"] >= 7


def test_round_trips_are_as_long_as_the_plan_says() -> None:
    with Ports("127.0.0.1", 1) as ports:
        plan = dataclasses.replace(PLAN, ports=ports.numbers, echo_rounds=4, echo_bytes=64)
        took, run = Rounds(plan, PINNING).echo("epoll")
    assert len(took) == 4
    assert run["bytes"] == 4 * 64
    assert min(took) > 0


def test_who_takes_none_is_left_out_with_the_reason() -> None:
    plan = dataclasses.replace(PLAN, receivers=ALL, c_receiver=sys.executable)
    left_out = unavailable(plan)
    assert left_out["mapped"] == "it takes no connections that come and go"
    assert not {name for name in left_out if takes_short(name)}
    assert set(C) | {"columns", "buffers", "aio-streams"} < set(ALL) - set(left_out)


@pytest.mark.parametrize("option", [["--read"], ["--queues", "2"], ["--sender", "send"]])
def test_what_short_connections_do_not_have_is_refused(option: list[str]) -> None:
    done = CliRunner().invoke(main, ["--short", "5", "-r", "epoll", *option])
    assert done.exit_code == 2
    assert "--short is of one queue" in done.output


def test_a_receiver_that_answers_is_an_error() -> None:
    with Ports("127.0.0.1", 1) as ports:
        job = SendJob("127.0.0.1", [*ports.numbers], size_bytes=SHORT_BYTES, short=1)
        answer = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
        answer += "print('ready', flush=True); c = s.accept()[0]; c.sendall(b'x'); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", answer, str(ports.numbers[0])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as receiver:
            assert receiver.stdout is not None
            receiver.stdout.readline()
            sender = [sys.executable, "-P", "-m", "pyzcrx.bench.send", job.to_json()]
            sent = subprocess.run(sender, capture_output=True, text=True, check=False)
            receiver.communicate()
    assert (sent.returncode, sent.stderr) == (1, "send: something came back\n")


def test_the_report_says_how_many_came() -> None:
    done = CliRunner().invoke(
        main, ["--short", "5", "--connections", "2", "-r", "epoll", "--rounds", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "2 connection(s) at a time, 5 of 4 KiB a run" in done.output
    done = CliRunner().invoke(
        main, ["--short", "5", "-r", "epoll", "--rounds", "1", "--echo-rounds", "2", "--json"]
    )
    setup = json.loads(done.stdout)["setup"]
    assert (setup["short"], setup["size_bytes"], setup["echo_bytes"]) == (5, 20480, 1024)


def test_a_receiver_that_fails_is_told() -> None:
    with Ports("127.0.0.1", 1) as ports:
        plan = dataclasses.replace(PLAN, ports=ports.numbers, c_receiver="/bin/false")
        with pytest.raises(BenchError, match="c did not start"):
            Rounds(plan, PINNING).run("c")

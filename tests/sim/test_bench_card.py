"""``zcrx-bench`` on a card that it sets up by itself: all back at the end, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.guest import program
from tests.guest.program import Program
from tests.patience import START_S
from tests.sim.fresh import Fresh, fresh_pair, untouched

MIB = 1 << 20


@pytest.fixture(scope="module")
def pair() -> Iterator[Fresh]:
    with fresh_pair() as card:
        yield card


@pytest.fixture
def card(pair: Fresh) -> Iterator[Fresh]:
    with untouched(pair):
        yield pair


def command(card: Fresh, *options: str) -> tuple[str, ...]:
    return ("zcrx-bench", "-i", card.interface, "--sender-netns", card.netns, *options)


def test_one_queue_and_the_cards_own_address(card: Fresh) -> None:
    done = program.run(
        *command(
            card, "--json", "--rounds", "2", "--size", "2M", "-r", "columns", "-r", "recv_into-64K"
        ),
        timeout=4 * START_S,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [run["copied"] for run in report["runs"]["columns"]] == [0.0, 0.0]
    assert report["setup"]["queues"] == 1
    assert not [problem for problem in report["problems"] if "loopback" in problem]


def test_two_queues_share_the_bytes(card: Fresh) -> None:
    before = {queue: card.tcp_bytes(queue) for queue in (2, 3)}
    done = program.run(
        *command(
            card,
            "--json",
            "--queues",
            "2",
            "--connections",
            "3",
            "--rounds",
            "1",
            "--size",
            "4M",
            "-r",
            "columns",
        ),
        timeout=4 * START_S,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    [run] = report["runs"]["columns"]
    assert run["bytes_by_queue"] == [2 * MIB, 2 * MIB]
    assert run["bytes"] == 4 * MIB
    assert run["copied"] == 0
    assert report["setup"]["queues"] == 2
    assert len(report["setup"]["pinned"]["receiver"]) == 2
    for queue, books in before.items():
        now = card.tcp_bytes(queue)
        assert now["zc"] - books["zc"] >= 2 * MIB
        assert (now["page"], now["linear"]) == (books["page"], books["linear"])


def test_an_error_puts_the_card_back(card: Fresh) -> None:
    done = program.run(
        *command(card, "-r", "columns", "--rx-buf-len", "12345"), timeout=4 * START_S
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("zcrx-bench: columns: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_the_card_back(card: Fresh, number: signal.Signals) -> None:
    with Program(*command(card, "-r", "columns", "--rounds", "1000", "--size", "1M")) as bench:
        deadline = time.monotonic() + 2 * START_S
        while not any(queue.io_uring for queue in card.state().queues):
            assert bench.poll() is None, bench.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        bench.send_signal(number)
        assert bench.wait(START_S) == 1
        assert "Traceback" not in bench.stderr.read()


def test_more_queues_than_there_are_is_one_line(card: Fresh) -> None:
    done = program.run(*command(card, "-r", "columns", "--queues", "4"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"ethtool -L {card.interface} combined 5" in done.stderr


def test_an_iperf3_server_sets_the_card_up(card: Fresh) -> None:
    before = card.tcp_bytes(3)
    options = ("--serve-iperf3", "--once", "-p", "0", "-i", card.interface)
    with Program("zcrx-bench", *options) as server:
        line = server.stderr.readline()
        assert f"({card.interface} queue 3)" in line, line + server.stderr.read()
        port = line.split(" port ")[1].split()[0]
        client = [*card.client_prefix, "iperf3", "-c", card.server, "-p", port, "-n", "1M"]
        assert subprocess.run(client, check=False, capture_output=True).returncode == 0
        assert server.wait(START_S) == 0
        assert "1 streams" in server.stderr.read()
    now = card.tcp_bytes(3)
    assert now["zc"] - before["zc"] >= MIB
    assert (now["page"], now["linear"]) == (before["page"], before["linear"])

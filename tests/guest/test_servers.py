"""Peers that would end, block or starve a server; stock clients beside them are served."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from contextlib import ExitStack, closing, suppress

import pytest

from tests.guest.card import CARD
from tests.guest.echo import Echo
from tests.guest.program import Program
from tests.guest.test_bench import PLACE, Served
from tests.guest.test_hostile import many_descriptors, refused, served
from tests.leaks import Holdings
from tests.patience import SLOW, START_S, until

DESCRIPTORS = 64
IDLE = 1200
DEAF = 40


class Limited(subprocess.Popen[str]):
    """A command under ``ulimit -n``, as far as it is used here like a Program."""

    def __init__(self, *argv: str) -> None:
        limit = f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"
        super().__init__(
            ["prlimit", limit, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        for stream in (self.stdout, self.stderr):
            assert stream is not None
            stream.close()


def idle_connections(stack: ExitStack, port: int) -> list[socket.socket]:
    """Far more than there are descriptors; those that are refused are among them."""
    stack.enter_context(many_descriptors())
    socks = []
    for _ in range(IDLE):
        sock = stack.enter_context(CARD.socket())
        with suppress(ConnectionResetError):
            sock.connect((CARD.server, port))
        socks.append(sock)
    return socks


# -- iperf3 ----------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [("-n", "200G"), ("-t", "86400"), ("-k", "1G")])
def test_a_client_that_stops_in_the_middle_is_given_up(amount: tuple[str, str]) -> None:
    with closing(Served(timeout_s=5 * SLOW)) as server:
        with subprocess.Popen(
            server.client(*amount, "-P", "2", "--forceflush", "-i", "0.1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as first:
            assert first.stdout is not None
            while "/sec" not in (line := first.stdout.readline()):
                assert line
            first.send_signal(signal.SIGSTOP)
            told = json.loads(server.process.stdout.readline())
            assert told["trouble"] == "the client fell silent in TEST_RUNNING"
            assert told["streams"] == 2
            assert server.iperf3("-n", "1M").returncode == 0
            first.kill()
        assert server.stop()[-1]["trouble"] == ""


def test_iperf3_beside_a_crowd_that_does_nothing() -> None:
    with ExitStack() as stack, closing(Served(1000, start=Limited)) as server:
        idle_connections(stack, server.port)
        for _ in range(3):
            done = server.iperf3("-n", "1M", "-P", "4")
            assert done.returncode == 0, done.stderr
        assert len(Holdings.now(server.process.pid).fds) < DESCRIPTORS
        assert [test["trouble"] for test in server.stop()] == [""] * 3


def test_its_last_line_has_the_time_and_the_rate() -> None:
    with Program("zcrx-bench", "--serve-iperf3", "--once", "-p", "0", *PLACE) as server:
        port = server.stderr.readline().split(" port ")[1].split()[0]
        client = [*CARD.client_prefix, "iperf3", "-c", CARD.server, "-p", port, "-n", "1M"]
        assert subprocess.run(client, check=False, capture_output=True).returncode == 0
        assert server.wait(START_S) == 0
        last = server.stderr.read().splitlines()[-1]
        assert (found := re.search(r": ([0-9.]+) s: .*, ([0-9.]+) \w+/s;", last)), last
        assert float(found[1]) > 0
        assert float(found[2]) > 0
    CARD.queue_free()


# -- echo ------------------------------------------------------------------------------


def test_who_holds_most_is_reset_and_the_others_are_served() -> None:
    with Echo("--pressure", "raise", "--area", "8M") as echo, ExitStack() as stack:
        deaf = []
        for _ in range(DEAF):
            sock = stack.enter_context(echo.connect())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            deaf.append(sock)

        def somebody_was_reset() -> bool:
            for sock in deaf:
                with suppress(OSError):
                    sock.send(bytes(1 << 16))
            assert echo.process.poll() is None, "".join(echo.errors)
            return bool(echo.errors)

        until(somebody_was_reset, "nobody held too much")
        for _ in range(3):
            served(echo, 64 << 10)
        for line in echo.errors:
            assert re.match(
                r"zcrx-echo: reset \S+ port \d+, which held most of the area: "
                r"\d+ bytes in \d+ buffers$",
                line,
            )
        ports = {int(line.split(" port ")[1].split(",")[0]) for line in echo.errors}
        assert ports & {sock.getsockname()[1] for sock in deaf}
        stack.close()
        served(echo)
        echo.errors.clear()


def test_echo_beside_a_crowd_that_does_nothing() -> None:
    with Echo(start=Limited) as echo, ExitStack() as crowd:
        idle_connections(crowd, echo.port)
        assert refused(echo)
        assert len(Holdings.now(echo.process.pid).fds) < DESCRIPTORS
        crowd.close()
        until(lambda: not refused(echo), "the places stay taken")
        served(echo)

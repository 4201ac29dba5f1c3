"""Wrong use of ``zcrx-echo``: one line with cause and hint, the documented status."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.guest import program
from tests.patience import START_S


def run(*options: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``zcrx-echo``; with *prefix* the script as it is installed."""
    if not prefix:
        return program.run("zcrx-echo", *options)
    return subprocess.run(
        [*prefix, "zcrx-echo", *options], capture_output=True, text=True, timeout=START_S
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-i", "nosuch0"], "no such interface"),
        (["-i", "lo"], "lo (driver unknown) has no header split"),
        (["-i", "nosuch0", "-q", "0", "--no-setup-nic"], "no such interface"),
        (["-i", "lo", "-q", "0", "--no-setup-nic"], "no zcrx queue operations"),
        (["-i", "lo", "-q", "4000000", "--no-setup-nic"], "lo, queue 4000000"),
        (["--nodev", "--area", "1000"], "not a positive multiple of 4096"),
        (["--nodev", "--area", "100000G"], "ENOMEM"),
        (["--nodev", "--host", "198.51.100.1"], "no interface has that address"),
        (["--nodev", "--host", "not an address"], "is no address"),
        (["--nodev", "--host", "fe80::1%nosuch0"], "there is no interface 'nosuch0'"),
        (["--nodev", "--rx-buf-len", "5000"], "rx_buf_len 5000"),
        (["--nodev", "--rx-buf-len", "64K"], "NODEV"),
    ],
)
def test_errors_are_one_line_with_status_1(options: list[str], text: str) -> None:
    done = run("-p", "0", *options)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("zcrx-echo: ")
    assert done.stderr.count("\n") == 1
    assert text in done.stderr


def test_port_in_use() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        done = run("--nodev", "-p", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "EADDRINUSE" in done.stderr
    assert "ss -ltnp" in done.stderr


def test_no_privilege() -> None:
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    done = run("--nodev", "-p", "0", prefix=prefix)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr
    assert done.stderr.count("\n") == 1


def test_debug_shows_a_traceback() -> None:
    done = run("-p", "0", "-i", "nosuch0", "-q", "0", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--nodev", "-i", "lo"],
        ["-i", "lo", "--no-setup-nic"],
        ["--nodev", "--area", "none"],
        ["--nodev", "--area", "0"],
        ["--nodev", "--rcvbuf", "2G"],
        ["--nodev", "--pressure-limit", "9999999999999G"],
        ["--nodev", "--stats-interval", "nan"],
        ["--nodev", "--rq-entries", "0"],
        ["--nodev", "--cq-entries", "70000"],
        ["--nodev", "--port", "65536"],
        ["--nodev", "--stats-interval", "0"],
        ["--nodev", "-q", "1"],
        ["--no-such-option"],
    ],
)
def test_wrong_command_lines_have_status_2(options: list[str]) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_huge_pages_are_a_line_of_warning() -> None:
    with subprocess.Popen(
        ["zcrx-echo", "--nodev", "-p", "0", "--huge", "2M", "--area", "4M"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        warning, listening = process.stderr.readline(), process.stderr.readline()
        process.terminate()
        figures = process.stderr.read()
    assert warning.startswith("zcrx-echo: warning: no 2 huge pages of 2M are free")
    assert "listening on" in listening
    assert figures.startswith("zcrx-echo: ")
    assert "0 connections" in figures
    assert process.returncode == 0


@pytest.mark.parametrize("output", ["/dev/full", "a pipe that nobody reads"])
def test_figures_that_cannot_be_written_end_the_server(output: str) -> None:
    argv = ["zcrx-echo", "--nodev", "-p", "0", "--json", "--stats-interval", "0.1"]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, open(writer, "wb") as pipe:
        to = full if output == "/dev/full" else pipe
        done = subprocess.run(argv, stdout=to, stderr=subprocess.PIPE, text=True, timeout=START_S)
    said = [line for line in done.stderr.splitlines() if "listening on" not in line]
    if to is pipe:
        assert (done.returncode, said) == (128 + 13, [])
    else:
        lost = "zcrx-echo: cannot write to standard output: No space left on device"
        assert (done.returncode, said) == (1, [lost])


@pytest.fixture
def link_local() -> Iterator[str]:
    """An address of the loopback interface that is nothing without its scope."""
    command = ["ip", "-6", "addr", "{}", "fe80::99/64", "dev", "lo", "nodad"]
    subprocess.run([word.format("add") for word in command], check=True)
    yield "fe80::99%lo"
    subprocess.run([word.format("del") for word in command[:-1]], check=True)


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "[::1]", "localhost", "{}", "[{}]"])
def test_every_way_to_write_a_host(host: str, link_local: str) -> None:
    argv = ["zcrx-echo", "--nodev", "-p", "0", "--once", "--host", host.format(link_local)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening on " in line
        at, port = line.split("listening on ")[1].split()[0:3:2]
        with socket.create_connection((at, int(port)), START_S) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10, socket.MSG_WAITALL) == b"hello"
        assert process.wait(START_S) == 0


def test_help_and_version() -> None:
    assert "--discard" in run("--help").stdout
    assert run("--version").stdout.startswith("zcrx-echo, version ")

"""Once set up, nothing needs privilege any more, and nothing brings it back."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import pyzcrx
from pyzcrx.privilege import User, drop
from tests.guest.card import CARD, PATIENCE_S, register
from tests.guest.echo import START_S, Echo, crowd, exchange
from tests.guest.test_receive import connected, sending

MIB = 1 << 20
NOBODY = User.parse("nobody")


def in_child(work: Callable[[], None]) -> None:
    """*work* in a forked process, which may lose its privileges; it must succeed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def status_of(pid: int | str) -> dict[str, str]:
    """``/proc/PID/status``"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def unprivileged(pid: int | str) -> bool:
    status = status_of(pid)
    none = "0" * 16
    return (
        all(status[f"Cap{which}"] == none for which in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
        and status["NoNewPrivs"] == "1"
        and status["Uid"].split() == [str(NOBODY.uid)] * 4
        and status["Gid"].split() == [str(NOBODY.gid)] * 4
        and status["Groups"].strip() in ("", str(NOBODY.gid))
    )


def test_everything_but_registration_goes_on() -> None:
    data = os.urandom(6 * MIB)

    def receiver() -> None:
        # Memory is charged to no limit, since the ring was made by root.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
        with (
            connected() as (client, sock),
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(4 * MIB) as area,
            pyzcrx.Area.anonymous(4 * MIB) as more,
            pyzcrx.Area.anonymous(4 * MIB) as other,
        ):
            ifq = register(ring, area)
            drop(NOBODY)
            assert unprivileged("self")
            got = bytearray()
            ifq.add_area(more)
            with sending(client, data):
                ifq.receive(sock)
                for n, event in enumerate(ring.events()):
                    assert not isinstance(event, pyzcrx.Failed), event
                    if isinstance(event, pyzcrx.Data):
                        got += event.buffer
                        event.buffer.release()
                    if n % 100 == 0:
                        ifq.flush()
            assert got == data
            with pytest.raises(pyzcrx.errors.NotPermitted, match="CAP_NET_ADMIN"):
                ring.register_ifq(other, **CARD.register)

    in_child(receiver)
    CARD.queue_free()


def test_nothing_brings_it_back() -> None:
    def worker() -> None:
        drop(NOBODY)
        ways_back: list[Callable[[], None]] = [
            lambda: os.setuid(0),
            lambda: os.setgid(0),
            lambda: os.setgroups([0]),
            lambda: os.setresuid(0, 0, 0),
            lambda: os.chroot("/"),
        ]
        for back in ways_back:
            with pytest.raises(PermissionError):
                back()
        # Not by a program with the set-user-ID bit either.
        done = subprocess.run([copy, "-u"], capture_output=True, text=True, check=True)
        assert done.stdout == f"{NOBODY.uid}\n"

    copy = Path("/tmp/pyzcrx-id")
    copy.write_bytes(Path("/usr/bin/id").read_bytes())
    copy.chmod(0o4755)
    try:
        # Without the drop, the bit does give root: the test can fail.
        plain = ("setpriv", "--reuid", "nobody", "--clear-groups", str(copy), "-u")
        assert subprocess.run(plain, capture_output=True, text=True).stdout == "0\n"
        in_child(worker)
    finally:
        copy.unlink()


def test_threads_and_programs_started_later_have_none() -> None:
    def worker() -> None:
        drop(NOBODY)
        done = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
        assert "CapBnd:\t0000000000000000\n" in done.stdout
        assert "NoNewPrivs:\t1\n" in done.stdout

    in_child(worker)


# -- zcrx-echo --user -------------------------------------------------------------------


def worker_of(echo: Echo) -> psutil.Process:
    (worker,) = psutil.Process(echo.process.pid).children()
    return worker


def wait_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"{process} lives on"
            time.sleep(0.02)


def test_the_echo_worker_has_no_privilege_and_echoes() -> None:
    with Echo("--user", "nobody") as echo:
        worker = worker_of(echo)
        assert unprivileged(worker.pid)
        assert status_of(echo.process.pid)["Uid"].split() == ["0"] * 4
        sent = crowd(echo.port, 16, 256 << 10, seed=11)
        # The supervisor has nothing that the network could reach.
        fds = Path(f"/proc/{echo.process.pid}/fd")
        assert not [fd for fd in fds.iterdir() if "socket:" in os.readlink(fd)]
        stats = echo.stop()
    assert stats["bytes"] == sent
    assert CARD.copied(stats)
    wait_gone(worker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_worker(number: int) -> None:
    with Echo("--user", "nobody") as echo, echo.connect() as sock:
        assert exchange(sock, bytes(1000)) == bytes(1000)
        assert echo.stop(number)["bytes"] == 1000


def test_a_killed_worker_takes_its_supervisor_along_and_a_restart_succeeds() -> None:
    port = 0
    for _ in range(3):
        with Echo("--user", "nobody", port=port) as echo:
            port = echo.port
            with echo.connect() as sock:
                sock.sendall(bytes(256 << 10))
                assert sock.recv(1000)
                worker_of(echo).kill()
                assert echo.process.wait(START_S) == -signal.SIGKILL
    with Echo("--user", "nobody", port=port) as echo, echo.connect() as sock:
        assert exchange(sock, b"back") == b"back"


def test_a_killed_supervisor_takes_its_worker_along() -> None:
    with Echo("--user", "nobody") as echo:
        worker = worker_of(echo)
        with echo.connect() as sock:
            assert exchange(sock, b"here") == b"here"
        echo.kill()
        wait_gone(worker)
    CARD.queue_free()


def test_a_failed_start_is_one_line_and_no_process() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        done = subprocess.run(
            [
                "zcrx-echo",
                *CARD.echo_options,
                "--user",
                "nobody",
                "-p",
                str(taken.getsockname()[1]),
            ],
            capture_output=True,
            text=True,
            timeout=START_S,
        )
    assert done.returncode == 1
    assert "EADDRINUSE" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("user", ["root", "nobody:root", "no such user", "nobody:no such group"])
def test_wrong_users_have_status_2(user: str) -> None:
    done = subprocess.run(
        ["zcrx-echo", *CARD.echo_options, "--user", user], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_only_root_can_give_its_privileges_up() -> None:
    done = subprocess.run(
        [
            "setpriv",
            "--reuid",
            "nobody",
            "--clear-groups",
            "zcrx-echo",
            *CARD.echo_options,
            "--user",
            "daemon",
            "-p",
            "0",
        ],
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr
    assert done.stderr.count("\n") == 1

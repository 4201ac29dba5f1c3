"""The module comes and goes under load, bound or not, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.card import CARD, PATIENCE_S, Sim, connect, run
from tests.guest.echo import Echo
from tests.leaks import KernelHoldings, free_deferred_skbs, pinned_pages
from tests.long import rounds

LOADED_BYTES = 8 << 20
"""What has gone through the card before it is taken away."""
WARM_UP = 4
ROUNDS = rounds(5, 100)


@pytest.fixture(autouse=True)
def _put_back(sim: Sim) -> Iterator[None]:
    retries = Path("/proc/sys/net/ipv4/tcp_orphan_retries")
    before = retries.read_text()
    retries.write_text("1\n")  # a killed receiver's sockets still want to send
    yield
    retries.write_text(before)
    sim.take_down()
    sim.set_up()


@contextlib.contextmanager
def flood(port: int) -> Iterator[Callable[[], None]]:
    """A client that sends as long as it can. Gives what waits until LOADED_BYTES are sent."""
    sock = connect(port)
    loaded, stop = threading.Event(), threading.Event()

    def send() -> None:
        data, sent = os.urandom(1 << 20), 0
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sent += sock.send(data)
                if sent >= LOADED_BYTES:
                    loaded.set()

    def wait() -> None:
        assert loaded.wait(PATIENCE_S)

    thread = threading.Thread(target=send)
    sock.settimeout(1)
    thread.start()
    try:
        yield wait
    finally:
        stop.set()
        thread.join()
        # By a reset: the orphan of a plain close would keep its namespace for minutes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 18):
            pass


def unload_unbound() -> None:
    with socket.create_server((CARD.server, 0)) as listener:
        with flood(listener.getsockname()[1]) as loaded:
            sock, _ = listener.accept()
            thread = threading.Thread(target=drain, args=(sock,))
            thread.start()
            loaded()
            run("rmmod", "zcrxsim")
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        sock.close()


def unload_then_kill() -> None:
    with Echo("--discard") as echo, flood(echo.port) as loaded:
        loaded()
        run("rmmod", "zcrxsim")
        echo.kill()


def kill_then_unload() -> None:
    with Echo("--discard") as echo, flood(echo.port) as loaded:
        loaded()
        echo.kill()
        run("rmmod", "zcrxsim")


UNLOADS = (unload_unbound, unload_then_kill, unload_unbound, kill_then_unload)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def settled() -> KernelHoldings:
    """What is held once the sockets of the dead and the packets on their way are gone."""
    until(
        lambda: " orphan 0 " in Path("/proc/net/sockstat").read_text(),
        "sockets that nobody has any more stay",
    )
    free_deferred_skbs()
    until(lambda: pinned_pages() <= 0, f"{pinned_pages()} pages stay pinned")
    return KernelHoldings.now()


def test_loads_and_unloads_under_load_leave_nothing(sim: Sim) -> None:
    sim.take_down()
    before = None
    for i in range(WARM_UP + ROUNDS):
        if i == WARM_UP:
            before = settled()
        sim.set_up()
        UNLOADS[i % len(UNLOADS)]()
        sim.take_down()
    assert before is not None
    grown = settled().since(before, ROUNDS)
    # Less than a page and an object a load.
    assert grown.vmalloc < ROUNDS
    assert grown.nameless < ROUNDS
    assert grown.objects == {}
    assert "page_pool_release_retry" not in run("dmesg")  # "stalled pool shutdown"

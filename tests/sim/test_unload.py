"""The module comes and goes under load, bound or not, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import reduce
from typing import NoReturn

import pytest

import pyzcrx
from tests.guest.card import CARD, PATIENCE_S, Sim, connect, register, run
from tests.leaks import KernelHoldings
from tests.long import rounds
from tests.sim.removal import abort, settle, unload

LOADED_BYTES = 8 << 20
"""What has gone through the card before it is taken away."""
AREA_BYTES = 64 << 20
WARM_UP = 2
ROUNDS = rounds(4, 100)
TRIES = 3


@contextlib.contextmanager
def flood(port: int) -> Iterator[Callable[[], None]]:
    """A client that sends as long as it can. Gives what waits until LOADED_BYTES are sent."""
    sock = connect(port)
    loaded, stop = threading.Event(), threading.Event()

    def send() -> None:
        data, sent = os.urandom(1 << 20), 0
        while not stop.is_set():
            try:
                sent += sock.send(data)
            except TimeoutError:
                continue  # a look at stop
            except OSError:
                return
            if sent >= LOADED_BYTES:
                loaded.set()

    def wait() -> None:
        assert loaded.wait(2 * PATIENCE_S), CARD.stuck()

    thread = threading.Thread(target=send)
    sock.settimeout(1)
    thread.start()
    try:
        yield wait
    finally:
        stop.set()
        thread.join()
        abort(sock)


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
            unload()
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        sock.close()


@contextlib.contextmanager
def receiver() -> Iterator[tuple[int, int]]:
    """A process that receives on the card and dies by kill -9 at the end; its pid, its port."""
    with socket.create_server((CARD.server, 0)) as listener:
        port = int(listener.getsockname()[1])
        # Forked rather than started: it is a hundred of them.
        pid = os.fork()
        if not pid:
            receive_for_ever(listener)
    try:
        yield pid, port
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


def receive_for_ever(listener: socket.socket) -> NoReturn:
    try:
        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(AREA_BYTES) as area:
            ifq = register(ring, area)
            sock, _ = listener.accept()
            ifq.receive(sock)
            for batch in ring.batches():
                batch.release()
            signal.pause()  # told that the card is gone; we are killed all the same
    finally:
        os._exit(1)


def unload_then_kill() -> None:
    with receiver() as (_, port), flood(port) as loaded:
        loaded()
        unload()


def kill_then_unload() -> None:
    with receiver() as (pid, port), flood(port) as loaded:
        loaded()
        os.kill(pid, signal.SIGKILL)
        unload()


UNLOADS = (unload_unbound, unload_then_kill, unload_unbound, kill_then_unload)


def come_and_go(sim: Sim, loads: int) -> None:
    for i in range(loads):
        sim.set_up()
        UNLOADS[i % len(UNLOADS)]()
        sim.take_down()


def grown_by(sim: Sim, loads: int) -> KernelHoldings:
    """What so many loads added, less what the kernel frees in its own time."""
    settle()
    before = KernelHoldings.now()
    come_and_go(sim, loads)
    settle()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        grown = KernelHoldings.now().since(before, loads)
        if less_than_one_a_load(grown, loads) or time.monotonic() >= deadline:
            return grown
        time.sleep(1)


def less_than_one_a_load(grown: KernelHoldings, loads: int) -> bool:
    """Less than a page and an object."""
    return max(grown.vmalloc, grown.nameless) < loads and not grown.objects


@pytest.mark.usefixtures("put_back")
def test_loads_and_unloads_under_load_leave_nothing(sim: Sim) -> None:
    sim.take_down()
    come_and_go(sim, WARM_UP)
    # A leak adds to the same account every time. What the kernel keeps at hand goes now to one,
    # now to another: 28 pages, then 4 of vmalloc, then 28 again were seen in place of a leak.
    grown = [grown_by(sim, ROUNDS)]
    while not less_than_one_a_load(reduce(KernelHoldings.least, grown), ROUNDS):
        if len(grown) == TRIES:
            pytest.fail(f"{ROUNDS} loads left, each time measured: {grown}")
        grown.append(grown_by(sim, ROUNDS))
    assert "page_pool_release_retry" not in run("dmesg")  # "stalled pool shutdown"

"""The module comes and goes under load, bound or not, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
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
WARM_UP = 4
ROUNDS = rounds(5, 100)


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
        assert loaded.wait(PATIENCE_S)

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


def settled(before: KernelHoldings) -> KernelHoldings:
    """What was added for good: the kernel frees some of it in its own time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        grown = KernelHoldings.now().since(before, ROUNDS)
        few = max(grown.vmalloc, grown.nameless) < ROUNDS and not grown.objects
        if few or time.monotonic() >= deadline:
            return grown
        time.sleep(1)


@pytest.mark.usefixtures("put_back")
def test_loads_and_unloads_under_load_leave_nothing(sim: Sim) -> None:
    sim.take_down()
    before = None
    for i in range(WARM_UP + ROUNDS):
        if i == WARM_UP:
            settle()
            before = KernelHoldings.now()
        sim.set_up()
        UNLOADS[i % len(UNLOADS)]()
        sim.take_down()
    assert before is not None
    settle()
    grown = settled(before)
    # Less than a page and an object a load.
    assert grown.vmalloc < ROUNDS
    assert grown.nameless < ROUNDS
    assert grown.objects == {}
    assert "page_pool_release_retry" not in run("dmesg")  # "stalled pool shutdown"

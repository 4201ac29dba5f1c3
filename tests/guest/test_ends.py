"""Every way to end: any order, signals, exits, forks, threads, and peers that fall silent."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

import psutil
import pytest

import pyzcrx
from tests.guest.card import CARD, PATIENCE_S, Pair, register, run
from tests.guest.test_receive import connected, ifq_of
from tests.leaks import nothing_leaks
from tests.long import rounds
from tests.patience import START_S

MIB = 1 << 20
STRIKES = 8

HOLDER = """
import os, socket, sys, time
import pyzcrx
options = eval(sys.argv[1])
listener = socket.create_server((sys.argv[2], 0))
ring = pyzcrx.Ring()
area = pyzcrx.Area.memfd(8 << 20)
ifq = ring.register_ifq(area, timeout=1000, rq_memory="kernel", **options)
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
ifq.receive(sock)
held, views = [], [ring.cq_view, ifq.rq_view, area.view]
for event in ring.events():
    held.append(event.buffer)
    views.append(event.buffer.view()[1:])
    if len(held) == 4:
        break
"""


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


class Process:
    """A Python process that receives and holds, then goes on with *code*."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER + code, repr(CARD.register), CARD.server],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.client = CARD.socket()
        self.client.settimeout(START_S)
        self.client.connect((CARD.server, int(self.line())))
        # A page or more each, so that four completions come.
        self.client.sendall(bytes(64 << 10))

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line or self.process.stderr is None, self.process.stderr.read()
        return line

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its children have its pipes
        self.client.close()
        self.process.communicate()


def queue_comes_back() -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area:
        register(ring, area)


def test_close_in_any_order() -> None:
    names = ("ring", "area", "sock", "buffer")
    for order in itertools.permutations(names):
        with connected() as (client, sock):
            ring, area = pyzcrx.Ring(), pyzcrx.Area.anonymous(8 * MIB)
            ifq = register(ring, area)
            client.sendall(b"kept" * 100)
            ifq.receive(sock)
            event = next(ring.events())
            assert isinstance(event, pyzcrx.Data)
            buffer, view = event.buffer, event.buffer.view()
            ends: dict[str, Callable[[], None]] = {
                "ring": ring.close,
                "area": area.close,
                "sock": sock.close,
                "buffer": view.release,
            }
            for name in order:
                if name != "buffer":
                    assert bytes(memoryview(buffer)[:4]) == b"kept"
                ends[name]()
            buffer.release()
            ring.close()


def test_an_exception_in_the_loop_closes_everything() -> None:
    def consume(event: pyzcrx.Event) -> None:
        raise ZeroDivisionError(event)

    with connected() as (client, sock), pytest.raises(ZeroDivisionError):  # noqa: PT012
        client.sendall(bytes(100_000))
        with ifq_of(8 * MIB) as (ring, ifq):
            ifq.receive(sock)
            for event in ring.events():
                consume(event)
    queue_comes_back()


class Interrupted(BaseException):
    """What the handler below raises."""


class Interrupter:
    """SIGALRM within 3 ms of :meth:`aim`, raising Interrupted where it strikes while armed."""

    def __init__(self) -> None:
        self.struck = 0
        self.armed = False
        self._random = random.Random(1)

    def __enter__(self) -> Interrupter:
        self._before = signal.signal(signal.SIGALRM, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def aim(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._random.random() * 0.003 + 1e-6)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.armed:
            raise Interrupted


class Trickle:
    """Sends a piece every now and then, at least *least* bytes, until told that it is enough."""

    def __init__(self, sock: socket.socket, least: int) -> None:
        self.sent = bytearray()
        self.enough = threading.Event()
        self._sock, self._least = sock, least
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while len(self.sent) < self._least or not self.enough.wait(0.002):
            piece = os.urandom(256 << 10)
            self._sock.sendall(piece)
            self.sent += piece
        self._sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("batches", [False, True])
def test_signals_that_raise_in_mid_stream_lose_nothing(batches: bool) -> None:
    received = bytearray()
    kept: list[Any] = [None]

    def turn(ring: pyzcrx.Ring) -> Any:
        # By for, not next(): what a call returns is lost to the caller if a handler raises then.
        if batches:
            kept[0] = ring.batches()
            for batch in kept[0]:
                return batch
        else:
            kept[0] = ring.events()
            for event in kept[0]:
                return [event]
        return []

    with (
        connected() as (client, sock),
        ifq_of(16 * MIB) as (ring, ifq),
        Trickle(client, rounds(4, 64) * MIB) as trickle,
        Interrupter() as interrupter,
    ):
        request = ifq.receive(sock)
        aimed = False
        while not request.over or ring._delivery.busy:
            got: pyzcrx.Batch | list[pyzcrx.Event] = []
            # Not each turn: on a slow machine none would get far enough.
            if aimed := not aimed:
                interrupter.aim()
            try:
                interrupter.armed = True
                got = turn(ring)
                interrupter.armed = False
            except Interrupted:
                interrupter.armed = False
                interrupter.struck += 1
            if interrupter.struck >= STRIKES:
                trickle.enough.set()
            if isinstance(got, pyzcrx.Batch):
                for run_ in got.runs():
                    for i in range(run_.start, run_.stop):
                        received += got.view(run_.request, i)
                got.release()
                continue
            for event in got:
                if isinstance(event, pyzcrx.Data):
                    received += event.buffer
                    event.buffer.release()
        assert interrupter.struck >= STRIKES
        ifq.audit()
        assert ifq.stats().held_buffers == 0
        assert received == trickle.sent


@contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """After so long, while what is within goes on."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_ctrl_c_is_an_exception_once_and_the_stream_goes_on() -> None:
    with connected() as (client, sock), ifq_of(8 * MIB) as (ring, ifq):
        ifq.receive(sock)
        with pytest.raises(KeyboardInterrupt), ctrl_c(0.2):
            next(ring.events())
        client.sendall(b"later")
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        assert bytes(event.buffer) == b"later"
        event.buffer.release()


@pytest.mark.parametrize(
    "code",
    [
        "",
        "sys.exit(3)",
        "raise RuntimeError('mine')",
        "del ring",
        "os._exit(0)",
        "import threading; threading.Thread(target=time.sleep, args=(1,)).start()",
    ],
)
def test_an_interpreter_that_ends_with_everything_open(code: str) -> None:
    with Process(f"\nprint('held', flush=True)\n{code}\n") as holder:
        assert holder.line() == "held\n"
        status = holder.process.wait(PATIENCE_S)
        assert status == {"sys.exit(3)": 3, "raise RuntimeError('mine')": 1}.get(code, 0)
        assert holder.process.stderr is not None
        errors = holder.process.stderr.read()
        assert ("Traceback" in errors) == ("raise" in code), errors
    queue_comes_back()


FORK = """
if os.fork() == 0:
    time.sleep(600)
print("held", flush=True)
time.sleep(600)
"""


def test_kill_with_views_mappings_and_a_forked_child_alive() -> None:
    for _ in range(rounds(3, 100)):
        with Process(FORK) as holder:
            assert holder.line() == "held\n"
            (child,) = psutil.Process(holder.process.pid).children()
            holder.process.kill()
            holder.process.wait(PATIENCE_S)
            queue_comes_back()  # while the child lives on
            assert child.status() == psutil.STATUS_SLEEPING


def test_a_forked_child_that_ends_as_python_does_leaves_the_parent_alone() -> None:
    with connected() as (client, sock), ifq_of(8 * MIB) as (ring, ifq):
        request = ifq.receive(sock)
        client.sendall(b"before")
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                wrong = 0
                for use in (
                    lambda: ring.wait(0),
                    lambda: next(ring.events()),
                    lambda: ifq.receive(sock),
                    ifq.audit,
                    ifq.flush,
                    request.cancel,
                    ring.fileno,
                    lambda: ring.accept(sock),
                    lambda: ring.send(sock, [b"x"]),
                ):
                    try:
                        use()
                    except pyzcrx.errors.ForkedChild:
                        continue
                    wrong += 1
                event.buffer.release()
                ring.close()
                ifq.area.close()
                status = wrong
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.sendall(b"after")
        more = next(ring.events())
        assert isinstance(more, pyzcrx.Data)
        assert bytes(more.buffer) == b"after"
        assert bytes(event.buffer) == b"before"
        more.buffer.release()
        event.buffer.release()


def test_a_peer_that_falls_silent_ends_by_its_time_out() -> None:
    if not isinstance(CARD, Pair):
        pytest.skip("expected: needs a link that can go down; runs on a pair of NICs")
    with connected() as (client, sock), ifq_of(8 * MIB) as (ring, ifq):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        ifq.receive(sock)
        client.sendall(b"x")
        data = next(ring.events())
        assert isinstance(data, pyzcrx.Data)
        data.buffer.release()
        with ExitStack() as stack:
            run("ip", "-n", CARD.netns, "link", "set", "zcrx1", "down")
            stack.callback(run, "ip", "-n", CARD.netns, "link", "set", "zcrx1", "up")
            sock.send(b"nobody takes this")
            failed = next(ring.events(timeout=PATIENCE_S))
        assert isinstance(failed, pyzcrx.Failed)
        assert "no longer answers" in str(failed.error)


def test_half_close_and_reset_in_every_order() -> None:
    for reset in (False, True):
        with connected() as (client, sock), ifq_of(8 * MIB) as (ring, ifq):
            ifq.receive(sock)
            client.sendall(b"x" * 5000)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            else:
                client.shutdown(socket.SHUT_WR)
            events = list(ring.events())
            for event in events[:-1]:
                assert isinstance(event, pyzcrx.Data)
                event.buffer.release()
            if reset:
                assert isinstance(events[-1], pyzcrx.Failed)
                assert isinstance(events[-1].error, pyzcrx.PeerReset)
            else:
                assert isinstance(events[-1], pyzcrx.End)
                sock.sendall(b"and back")
                assert client.recv(100) == b"and back"


def test_closing_the_ring_from_another_thread_is_refused_while_it_waits() -> None:
    with connected() as (client, sock), ifq_of(8 * MIB) as (ring, ifq):
        ifq.receive(sock)
        errors: list[type[BaseException]] = []

        def misuse() -> None:
            for use in (ring.close, lambda: ring.wait(0), lambda: ifq.receive(sock), ifq.audit):
                try:
                    use()
                except pyzcrx.errors.WrongThread as error:
                    errors.append(type(error))
            client.sendall(b"go on")

        thread = threading.Thread(target=misuse)
        thread.start()
        deadline = time.monotonic() + PATIENCE_S
        event = next(ring.events(timeout=PATIENCE_S))
        assert time.monotonic() < deadline
        thread.join()
        assert errors == [pyzcrx.errors.WrongThread] * 4
        assert isinstance(event, pyzcrx.Data)
        event.buffer.release()

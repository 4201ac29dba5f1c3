"""The ring's descriptor under event loops of others, in the form that a user writes."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import pyzcrx
from pyzcrx._kernel._ffi import lib
from pyzcrx._receive.inboxes import Inboxes
from pyzcrx._ring.pace import Pace
from tests.patience import PATIENCE_S

Wait = Callable[[int], bool]
"""Whether a descriptor polled readable before the test's patience ended."""


def by_epoll(fd: int) -> bool:
    with select.epoll() as poller:
        poller.register(fd, select.EPOLLIN)
        return bool(poller.poll(PATIENCE_S))


def by_select(fd: int) -> bool:
    return bool(select.select([fd], [], [], PATIENCE_S)[0])


def by_selectors(fd: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(PATIENCE_S))


def by_asyncio(fd: int) -> bool:
    async def wait() -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(fd, readable.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await readable.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)
        return True

    return asyncio.run(wait())


WAITS = [by_epoll, by_select, by_selectors, by_asyncio]


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def take_all(ring: pyzcrx.Ring) -> list[pyzcrx.Event]:
    events = list(ring.events(timeout=0))
    for event in events:
        if isinstance(event, pyzcrx.Accepted):
            os.close(event.fd)
    return events


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("watched_first", [True, False])
def test_requests_are_under_way_without_a_turn(
    listener: socket.socket, wait: Wait, watched_first: bool
) -> None:
    with pyzcrx.Ring() as ring, ExitStack() as stack:
        if watched_first:
            ring.fileno()
        ring.accept(listener)
        fd = ring.fileno()
        take_all(ring)
        assert not readable(fd)
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        assert wait(fd)
        events: list[pyzcrx.Event] = []
        while not events:  # the kernel may signal before the completion is there
            assert wait(fd)
            events = take_all(ring)
        assert [type(event) for event in events] == [pyzcrx.Accepted]

        ring.send(client, [b"x" * 1000])
        events = []
        while not events:
            assert wait(fd)
            events = take_all(ring)
        assert [type(event) for event in events] == [pyzcrx.Sent]
        take_all(ring)
        assert not readable(fd)


@pytest.mark.parametrize("way", ["events", "batches"])
def test_it_stays_readable_while_events_are_left(listener: socket.socket, way: str) -> None:
    n = 3
    with pyzcrx.Ring() as ring, ExitStack() as stack:
        fd = ring.fileno()
        ring.accept(listener)
        for _ in range(n):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        seen = 0
        while seen < n:
            assert by_epoll(fd)
            if way == "events":
                for event in ring.events(timeout=0):
                    assert isinstance(event, pyzcrx.Accepted)
                    os.close(event.fd)
                    seen += 1
                    break
            else:
                for event in ring.wait(0).events:
                    assert isinstance(event, pyzcrx.Accepted)
                    os.close(event.fd)
                    seen += 1
        assert not take_all(ring)
        assert not readable(fd)


def test_a_ring_with_nothing_in_flight_is_quiet(listener: socket.socket) -> None:
    with pyzcrx.Ring() as ring:
        fd = ring.fileno()
        accept = ring.accept(listener)
        accept.cancel()
        events: list[pyzcrx.Event] = []
        while not events:
            assert by_epoll(fd)
            events = take_all(ring)
        assert [type(event) for event in events] == [pyzcrx.Failed]
        take_all(ring)
        assert not readable(fd)
        ring.wakeup_fd  # noqa: B018 - makes the pipe that wake() writes to
        take_all(ring)
        ring.wake()
        assert by_epoll(fd)
        take_all(ring)  # the kernel signals once more, when the completion is posted
        assert not readable(fd)


def test_more_work_than_one_turn_does() -> None:
    n = 100  # a turn that does not wait does 20 at most (IO_LOCAL_TW_DEFAULT_MAX)
    with pyzcrx.Ring() as ring, ExitStack() as stack:
        fd = ring.fileno()
        pairs = [socket.socketpair() for _ in range(n)]
        polls = [Counted(ring, stack.enter_context(a)) for a, _ in pairs]
        ring._delivery.collect(0)
        assert not readable(fd)
        for _, b in pairs:
            stack.enter_context(b).send(b"x")
        while sum(poll.seen for poll in polls) < n:
            assert by_epoll(fd)
            ring._delivery.collect(0)
        assert [poll.seen for poll in polls] == [1] * n
        ring._delivery.collect(0)
        assert not readable(fd)


class Counted:
    """A poll that ends with one completion."""

    def __init__(self, ring: pyzcrx.Ring, sock: socket.socket) -> None:
        core = ring._core
        self.seen = 0
        token = core.new_token()
        result = lib.pz_prep_poll(core.raw, sock.fileno(), select.POLLIN, 0, token)
        core.submit(self, token, result, "poll")

    def _complete(self, _res: int, _flags: int) -> None:
        self.seen += 1

    def _drop(self, res: int) -> None:
        pass

    def _closed_by_ring(self) -> None:
        pass


@pytest.mark.parametrize("where", ["turn", "after"])
def test_an_interrupted_turn_leaves_it_readable(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with pyzcrx.Ring() as ring, ExitStack() as stack:
        fd = ring.fileno()
        ring.accept(listener)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        assert by_epoll(fd)
        with monkeypatch.context() as patch:
            if where == "turn":
                patch.setattr(Pace, "brought", lambda *_: 1 / 0)
            else:
                patch.setattr(Inboxes, "__bool__", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                take_all(ring)
        assert readable(fd)
        assert [type(event) for event in take_all(ring)] == [pyzcrx.Accepted]


def test_it_is_not_the_childs(listener: socket.socket) -> None:
    with pyzcrx.Ring() as ring:
        fd = ring.fileno()
        ring.accept(listener)
        child = os.fork()
        if not child:
            try:
                os.fstat(fd)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_it_is_closed_with_the_ring() -> None:
    ring = pyzcrx.Ring()
    fd = ring.fileno()
    ring.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(pyzcrx.ClosedError):
        ring.fileno()


@pytest.mark.parametrize("what", ["fileno", "wakeup_fd"])
def test_a_number_that_the_user_closed_is_left_to_its_new_file(what: str) -> None:
    ring = pyzcrx.Ring()
    shown = ring.fileno() if what == "fileno" else ring.wakeup_fd
    read, write = os.pipe2(os.O_NONBLOCK)
    os.dup2(write, shown)  # closes what it was
    ring.wake()
    ring.close()
    os.write(shown, b"still open")
    assert os.read(read, 100) == b"still open"
    for fd in (read, write, shown):
        os.close(fd)

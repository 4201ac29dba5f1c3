"""Rings on any kernel with io_uring: life, ownership, forks, views."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel.memory import Mapping
from pyzcrx._lease import Account
from pyzcrx._queue.buffer import Buffer
from tests.leaks import nothing_leaks


def test_a_ring_leaves_nothing_behind() -> None:
    pyzcrx.Ring().close()
    with nothing_leaks():
        for _ in range(20):
            with pyzcrx.Ring() as ring:
                assert ring.fileno() >= 0
                assert ring.wakeup_fd >= 0
                assert len(ring.wait(0)) == 0


@pytest.mark.parametrize(
    "sizes", [{"sq_entries": 0}, {"cq_entries": 0}, {"sq_entries": 1 << 20}, {"cq_entries": -1}]
)
def test_bad_sizes(sizes: dict[str, Any]) -> None:
    with nothing_leaks(), pytest.raises(pyzcrx.errors.BadArgument, match="between 1 and"):
        pyzcrx.Ring(**sizes)


def test_smallest_and_largest_rings() -> None:
    with pyzcrx.Ring(sq_entries=1, cq_entries=1) as ring:
        assert ring.cq_view.shape == (1, 4)
    with pyzcrx.Ring(sq_entries=32768, cq_entries=65536) as ring:
        assert ring.cq_view.shape == (65536, 4)


def test_close_is_idempotent_and_everything_after_it_says_so() -> None:
    ring = pyzcrx.Ring()
    view = ring.cq_view
    ring.close()
    ring.close()
    assert ring.closed
    assert view[0, 0] == 0
    assert "closed" in repr(ring)
    with pyzcrx.Area.anonymous(4096) as area:
        for use in (
            lambda: ring.wait(0),
            lambda: next(ring.events()),
            lambda: ring.register_ifq(area),
            lambda: ring.accept(0),
            lambda: ring.send(0, [b"x"]),
            lambda: ring.fileno(),
            lambda: ring.wakeup_fd,
        ):
            with pytest.raises((pyzcrx.ClosedError, StopIteration)):
                use()


def test_a_ring_that_was_dropped_warns_and_frees_its_descriptor() -> None:
    with nothing_leaks(), pytest.warns(ResourceWarning, match="without close"):
        pyzcrx.Ring()


def test_nor_does_one_that_could_be_woken_keep_any() -> None:
    with nothing_leaks(), pytest.warns(ResourceWarning, match="without close"):
        assert pyzcrx.Ring().wakeup_fd > 0


def test_connections_in_a_batch_that_nobody_saw_are_closed_with_the_ring() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, nothing_leaks():
        ring = pyzcrx.Ring()
        ring.accept(listener)
        with socket.create_connection(listener.getsockname()) as client:
            # As if a signal handler had raised before wait() could give the batch.
            unseen = ring._delivery._wait(10_000_000_000)
            assert [type(event) for event in unseen.events] == [pyzcrx.Accepted]
            ring.close()
            client.settimeout(10)
            assert client.recv(1) == b""


def test_connections_that_nobody_heard_of_are_closed_with_the_ring() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, nothing_leaks():
        ring = pyzcrx.Ring()
        ring.accept(listener)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        first = next(ring.events())
        assert isinstance(first, pyzcrx.Accepted)
        os.close(first.fd)
        undelivered = len(ring._delivery._undelivered)
        ring.close()
        assert undelivered > 0
        for client in clients[1:]:
            client.settimeout(10)
            assert client.recv(1) == b""
        for client in clients:
            client.close()


def test_an_accept_that_is_cancelled_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pyzcrx.Ring() as ring:
        accept = ring.accept(listener)
        ring.wait(0)
        accept.cancel()
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.Cancelled)


def test_wakes_do_not_stretch_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pyzcrx.Ring() as ring:
        ring.accept(listener)
        assert ring.wakeup_fd >= 0
        stop = threading.Event()

        def keep_waking() -> None:
            while not stop.wait(0.02):
                ring.wake()

        thread = threading.Thread(target=keep_waking)
        thread.start()
        began = time.monotonic()
        assert list(ring.events(timeout=0.2)) == []
        assert list(ring.batches(timeout=0.2)) == []
        assert 0.4 <= time.monotonic() - began < 20
        stop.set()
        thread.join()


def in_thread(use: object) -> BaseException | None:
    caught: list[BaseException | None] = [None]

    def run() -> None:
        try:
            use()  # type: ignore[operator]
        except BaseException as error:
            caught[0] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return caught[0]


def test_another_thread_gets_a_clear_error() -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4096) as area:
        for use in (
            lambda: ring.wait(0),
            lambda: ring.register_ifq(area),
            lambda: ring.accept(0),
            lambda: ring.close(),
            lambda: ring._core.cancel(1),
        ):
            error = in_thread(use)
            assert isinstance(error, pyzcrx.errors.WrongThread)
            assert "\n" not in str(error)
        assert len(ring.wait(0)) == 0


def test_wake_from_another_thread_ends_the_wait() -> None:
    with pyzcrx.Ring() as ring:
        assert ring.wakeup_fd >= 0
        thread = threading.Timer(0.05, ring.wake)
        thread.start()
        began = time.monotonic()
        ring.wait(30)
        assert time.monotonic() - began < 25
        thread.join()
        assert ring.in_flight == 0


def test_a_signal_ends_the_wait() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: seen.append(number))
    try:
        with pyzcrx.Ring() as ring:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while not seen:
                ring.wait(30)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == [signal.SIGALRM]


def test_events_end_when_nothing_is_in_flight() -> None:
    with pyzcrx.Ring() as ring:
        assert list(ring.events()) == []
        assert list(ring.batches()) == []


def test_timeouts() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, pyzcrx.Ring() as ring:
        accept = ring.accept(listener)
        assert list(ring.events(timeout=0.01)) == []
        assert list(ring.batches(timeout=0.01)) == []
        for bad in (-1, float("nan")):
            with pytest.raises(pyzcrx.errors.BadArgument, match="timeout"):
                ring.wait(bad)
        accept.cancel()
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert failed.request is accept


def test_accept_send_and_the_ring_fd_polls() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, pyzcrx.Ring() as ring:
        ring.accept(listener, context="mine")
        ring.wait(0)
        client = socket.create_connection(listener.getsockname())
        poller = select.poll()
        poller.register(ring.fileno(), select.POLLIN)
        assert poller.poll(10_000)
        (accepted,) = ring.wait(10).events
        assert isinstance(accepted, pyzcrx.Accepted)
        assert accepted.request.context == "mine"
        assert not os.get_inheritable(accepted.fd)
        ring.send(accepted.fd, [b"hello ", b"world"])
        (sent,) = ring.wait(10).events
        assert isinstance(sent, pyzcrx.Sent)
        assert sent.size_bytes == 11
        assert client.recv(100) == b"hello world"
        os.close(accepted.fd)
        client.close()


def test_send_to_nobody_fails_typed() -> None:
    left, right = socket.socketpair()
    right.close()
    with left, pyzcrx.Ring() as ring:
        ring.send(left, [b"x"])
        (failed,) = ring.wait(10).events
        assert isinstance(failed, pyzcrx.Failed)
        assert "EPIPE" in str(failed.error)
        assert isinstance(failed.error, ConnectionResetError)
        for bad in ([], [b"x"] * 1025):
            with pytest.raises(pyzcrx.errors.BadArgument, match="1024"):
                ring.send(left, bad)


def run_in_child(child: object) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            child()  # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_is_dead_to_the_ring_and_the_parent_undisturbed() -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 20) as area:
        fd = ring.fileno()
        view = area.view
        view[0] = 7
        cq = ring.cq_view

        def child() -> None:
            for use in (lambda: ring.wait(0), lambda: ring.register_ifq(area), ring.fileno):
                with pytest.raises(pyzcrx.errors.ForkedChild):
                    use()
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(fd)
            assert view[0] == 0  # zero pages, not the parent's
            view[0] = 1
            assert cq[0, 0] == 0
            ring.close()
            area.close()

        assert run_in_child(child) == 0
        assert view[0] == 7
        assert len(ring.wait(0)) == 0


def test_a_child_may_exit_and_collect_as_it_likes() -> None:
    ring = pyzcrx.Ring()
    area = pyzcrx.Area.anonymous(1 << 20)

    def child() -> None:
        nonlocal ring, area
        del ring, area

    assert run_in_child(child) == 0
    assert ring.fileno() >= 0
    ring.close()
    area.close()


def test_a_closed_ring_hands_nothing_out() -> None:
    ring = pyzcrx.Ring()
    iterator = ring.events(0)
    ring.close()
    uses: tuple[Callable[[], object], ...] = (
        lambda: ring.cq_head,
        lambda: ring.cq_tail,
        lambda: ring.cq_view,
        lambda: ring.events(0),
        lambda: ring.batches(0),
        lambda: next(iterator),
    )
    for use in uses:
        with pytest.raises(pyzcrx.ClosedError):
            use()


def test_an_iterator_is_its_owners() -> None:
    with pyzcrx.Ring() as ring, socket.create_server(("127.0.0.1", 0)) as listener:
        ring.accept(listener)
        for _ in range(2):
            socket.create_connection(listener.getsockname()).close()
        iterator = ring.events(timeout=5)
        first = next(iterator)
        errors: list[type[Exception]] = []

        def use() -> None:
            try:
                next(iterator)
            except Exception as error:
                errors.append(type(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert errors == [pyzcrx.errors.WrongThread]

        def child() -> None:
            with pytest.raises(pyzcrx.errors.ForkedChild):
                next(iterator)

        assert run_in_child(child) == 0
        for event in (first, next(iterator)):
            assert isinstance(event, pyzcrx.Accepted)
            os.close(event.fd)


def test_a_send_in_flight_at_close_lets_go_of_its_buffers() -> None:
    account, mapping = Account(), Mapping.anonymous(1 << 20)
    account.take(1)
    buffer = Buffer(account, mapping.span, 0, 1 << 20, 0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ring = pyzcrx.Ring()
        send = ring.send(ours, [buffer, b"more"])
        assert not list(ring.events(0))  # nobody reads: it stays in flight
        with pytest.raises(pyzcrx.BufferInUse):
            buffer.release()
        ring.close()
        buffer.release()
    assert account.given == 1
    assert send.buffers[0] is buffer
    mapping.close()

"""The wrong thread, and a forked child: a typed error from every call, and no harm done."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

import pyzcrx
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import filled, receiving, settled

Calls = dict[str, Callable[[], object]]


def uses(ring: pyzcrx.Ring, ifq: pyzcrx.Ifq, request: pyzcrx.Request) -> Calls:
    """Every call that is the owner's alone."""
    return {
        "wait": lambda: ring.wait(0),
        "events": lambda: next(ring.events()),
        "batches": lambda: next(ring.batches()),
        "register_ifq": lambda: ring.register_ifq(ifq.area),
        "accept": lambda: ring.accept(0),
        "send": lambda: ring.send(0, [b"x"]),
        "wakeup_fd": lambda: ring.wakeup_fd,
        "receive": lambda: ifq.receive(0),
        "add_area": lambda: ifq.add_area(ifq.area),
        "flush": ifq.flush,
        "audit": ifq.audit,
        "cancel": request.cancel,
    }


def test_a_batch_from_another_thread() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        request = ifq.receive(filled(kernel, 100).fileno())
        batch = ring.wait(0)
        calls: Calls = {"release": batch.release, "buffer": lambda: batch.buffer(request, 0)}
        found: dict[str, str] = {}
        thread = threading.Thread(target=lambda: found.update(outcomes(calls)))
        thread.start()
        thread.join(30)
        assert found == dict.fromkeys(calls, "WrongThread")
        batch.release()
        settled(kernel, ring, ifq)


def outcomes(calls: Calls) -> dict[str, str]:
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = "allowed"
        except Exception as error:
            found[name] = type(error).__name__
    return found


def test_every_call_from_another_thread() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        request = ifq.receive(filled(kernel, 100).fileno())
        calls = uses(ring, ifq, request) | {"close": ring.close}
        found: dict[str, str] = {}
        thread = threading.Thread(target=lambda: found.update(outcomes(calls)))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        assert found == dict.fromkeys(calls, "WrongThread")
        assert not ring.closed
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        event.buffer.release()
        settled(kernel, ring, ifq)


def test_a_thread_that_has_the_number_of_the_owner() -> None:
    """The system gives a thread's number to another once it has ended.

    The number is where its stack was. A new thread takes one of those that are free, and it is this
    one's turn at last while the others stay taken.
    """
    with ModelKernel(), pyzcrx.Area.anonymous(1 << 20) as area:
        made: list[tuple[int, pyzcrx.Ring]] = []
        events: list[Iterator[pyzcrx.Event]] = []

        def make() -> None:
            ring = pyzcrx.Ring()
            ring.register_ifq(area)
            events.append(ring.events())
            made.append((threading.get_ident(), ring))

        in_thread(make)
        [(number, ring)] = made
        found: dict[str, str] = {}
        calls: Calls = {
            "wait": lambda: ring.wait(0),
            "batches": lambda: next(ring.batches()),
            "events": lambda: next(events[0]),
        }

        looked, over = threading.Semaphore(0), threading.Event()

        def use() -> None:
            if threading.get_ident() == number:
                found.update(outcomes(calls))
            looked.release()
            over.wait(30)

        threads: list[threading.Thread] = []
        while not found and len(threads) < 100:
            threads.append(threading.Thread(target=use))
            threads[-1].start()
            assert looked.acquire(timeout=30)
        over.set()
        for thread in threads:
            thread.join(30)
        assert found == dict.fromkeys(calls, "WrongThread")
        ring._close_elsewhere()


def in_thread(what: Callable[[], None]) -> None:
    thread = threading.Thread(target=what)
    thread.start()
    thread.join(30)


def test_every_call_in_a_forked_child() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        request = ifq.receive(filled(kernel, 100).fileno())
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            found = {"child": "died"}
            try:
                found = outcomes(uses(ring, ifq, request))
                event.buffer.release()
                ring.close()
            finally:
                os.write(writer, repr(found).encode())
                os._exit(0)
        os.close(writer)
        with open(reader) as answer:
            assert answer.read() == repr(dict.fromkeys(uses(ring, ifq, request), "ForkedChild"))
        os.waitpid(pid, 0)
        assert bytes(event.buffer) == bytes(100)
        event.buffer.release()
        settled(kernel, ring, ifq)


def test_every_call_after_close() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        request = ifq.receive(kernel.socket().fileno())
        ring.close()
        ring.close()
        calls = uses(ring, ifq, request)
        assert outcomes(calls) == dict.fromkeys(calls, "ClosedError")


@pytest.mark.parametrize("size", ["1", None, 1.5])
def test_areas_of_no_size(size: object) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument):
        pyzcrx.Area.anonymous(size)  # type: ignore[arg-type]

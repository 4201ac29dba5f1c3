"""Which CPUs a receiver gets, and what is told of it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from typing import Any

import pytest

from pyzcrx._ring import napi
from pyzcrx.cli.placement import Cpu, place
from pyzcrx.errors import BadArgument
from pyzcrx.placement import (
    Incoming,
    Mode,
    Tally,
    choose,
    current_cpu,
    incoming,
    pin,
    pinned,
)

ALL = frozenset(range(4))


@pytest.mark.parametrize(
    ("mode", "softirq", "allowed", "cpus"),
    [
        ("same", {1}, ALL, {1}),
        ("same", {1, 2}, {2, 3}, {2}),
        ("other", {1}, ALL, {0, 2, 3}),
        (3, set(), ALL, {3}),
        (3, {3}, ALL, {3}),
    ],
)
def test_choose(mode: Mode | int, softirq: set[int], allowed: set[int], cpus: set[int]) -> None:
    assert choose(mode, softirq, allowed) == cpus


@pytest.mark.parametrize(
    ("mode", "softirq", "allowed", "text"),
    [
        ("same", {1}, {0}, "none is the same"),
        ("other", {1}, {1}, "none is another"),
        ("same", set(), ALL, "cannot be seen"),
        (7, {1}, ALL, "CPU 7 "),
    ],
)
def test_nothing_to_choose(
    mode: Mode | int, softirq: set[int], allowed: set[int], text: str
) -> None:
    with pytest.raises(BadArgument, match=text):
        choose(mode, softirq, allowed)


def test_pinned_is_for_this_thread_and_the_block() -> None:
    before = os.sched_getaffinity(0)
    cpu = min(before)
    others: list[set[int]] = []
    with pinned({cpu}):
        assert os.sched_getaffinity(0) == {cpu}
        assert current_cpu() == cpu
    thread = threading.Thread(target=lambda: others.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    assert os.sched_getaffinity(0) == before == others[0]


def test_no_such_cpu_or_thread() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(BadArgument, match="CPU 4000"):
        pin({4000})
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(BadArgument, match="No such process"):
        pin(before, ended.pid)
    assert os.sched_getaffinity(0) == before


def test_incoming() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as sock,
    ):
        client.sendall(b"x")
        assert sock.recv(1) == b"x"
        found = incoming(sock)
        assert found == incoming(sock.fileno())
        assert found.cpu in range(os.cpu_count() or 1)
        tally = Tally(busy_poll_us=5)
        tally.note(sock.fileno())
    told = tally.as_dict()
    assert told["softirq_cpus"] == {str(found.cpu): 1}
    assert told["busy_poll_us"] == 5
    assert told["receiver_cpus"] == sorted(os.sched_getaffinity(0))
    assert told["receiver_cpu"] in range(os.cpu_count() or 1)


def test_a_socket_that_heard_nothing() -> None:
    with socket.socket() as fresh:
        assert incoming(fresh) == Incoming(None, None)
    read, write = os.pipe()
    tally = Tally()
    tally.note(read)  # no socket: nothing to note
    assert tally.as_dict()["softirq_cpus"] == {}
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(("text", "value"), [("same", "same"), ("other", "other"), ("3", 3)])
def test_cpu_option(text: str, value: Any) -> None:
    assert Cpu()(text) == value


@pytest.mark.parametrize("text", ["", "-1", "both", "1,2"])
def test_cpu_option_refuses(text: str) -> None:
    with pytest.raises(Exception, match="neither same"):
        Cpu()(text)


def test_beside_an_interrupt_needs_a_card() -> None:
    nothing: Any = None  # no ring is asked
    before = os.sched_getaffinity(0)
    with pytest.raises(BadArgument, match="give -i"):
        place(nothing, "other", 0, None, None)
    assert os.sched_getaffinity(0) == before
    cpu = min(before)
    try:
        assert place(nothing, cpu, 0, None, None).as_dict()["receiver_cpus"] == [cpu]
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("us", "ids", "text"),
    [
        (-1, (), "busy polling"),
        (10_001, (), "busy polling"),
        (5, (0,), "NAPI id"),
        (5, (1 << 32,), "NAPI id"),
    ],
)
def test_napi_arguments(us: int, ids: tuple[int, ...], text: str) -> None:
    with pytest.raises(BadArgument, match=text):
        napi.register(-1, us, napi_ids=ids)

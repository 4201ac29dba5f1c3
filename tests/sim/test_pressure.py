"""The card's side of pressure: notifications of the kernel, areas too small for its ring."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx._pressure.policy import Policy
from pyzcrx.uapi import EventType
from tests.guest.card import PATIENCE_S, Sim, register, run
from tests.guest.test_receive import connected, sending
from tests.patience import until
from tests.sim.removal import close_by_reset
from tests.sim.test_paths import unread

MIB = 1 << 20


def take(ring: pyzcrx.Ring, size_bytes: int) -> bytes:
    got = bytearray()
    for event in ring.events(timeout=PATIENCE_S):
        assert isinstance(event, pyzcrx.Data), event
        got += event.buffer
        event.buffer.release()
        if len(got) >= size_bytes:
            break
    return bytes(got)


def test_the_advice_knows_the_card(sim: Sim) -> None:
    run("ethtool", "-G", sim.interface, "rx", "1024")
    try:
        assert pyzcrx.area_advice(sim.interface) == pyzcrx.area_advice(
            rx_ring_entries=1024, mtu=1500
        )
    finally:
        run("ethtool", "-G", sim.interface, "rx", "512")
    assert pyzcrx.area_advice(sim.interface).least_bytes == (512 + 128) * 4096


def test_an_area_below_the_ring_is_warned_of() -> None:
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(MIB) as area,
        pytest.warns(pyzcrx.errors.PressureWarning, match="may keep 2621440 posted"),
    ):
        register(ring, area)


def test_copied_data_is_a_notice_armed_again() -> None:
    """What arrived before the queue was bound lies in pages of the kernel, and is copied."""
    seen = 0
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * MIB) as area, connected() as first:
        early = os.urandom(20_000)
        first[0].sendall(early)
        with connected() as second:
            second[0].sendall(early)
            for _, sock in (first, second):
                until(lambda: unread(sock) == len(early), "the data did not arrive")  # noqa: B023
            ifq = register(ring, area)
            for _, sock in (first, second):
                ifq.receive(sock)
                assert take(ring, len(early)) == early
                seen += 1
                deadline = time.monotonic() + PATIENCE_S
                while ifq._core.notices.counts[EventType.COPY] < seen:
                    assert time.monotonic() < deadline
                    ring.wait(0.01)
                # Armed again, a while after.
                while ifq._core.notices.fired:
                    assert time.monotonic() < deadline
                    ring.wait(0.05)
        assert ifq.stats().bytes_copied
        ifq.audit()


@pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")
def test_a_pool_that_finds_no_buffer_is_a_notice_and_an_alloc_failure() -> None:
    data = os.urandom(4 * MIB)
    with (
        connected() as (client, sock),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(MIB) as area,
    ):
        ifq = register(ring, area, pressure="copy")
        ifq.receive(sock)
        with sending(client, data):
            assert take(ring, len(data)) == data
        assert ifq._core.notices.counts[EventType.ALLOC_FAIL] > 0
        assert ifq.stats().alloc_failures > 0
        ifq.audit()


PAGES = 16
SO_MEMINFO = 55
"""include/uapi/asm-generic/socket.h (4.12); SK_MEMINFO_RMEM_ALLOC is its first number."""

FIRST, LATER = 300, 40
"""Bytes of segments; with headers only the first are longer than BETWEEN, and not three others
that TCP makes one of while the card has not sent what came before (tcp_autocorking)."""
BETWEEN = 250
HOLD = f"""
table inet hold {{
    chain in {{
        type filter hook input priority 0
        meta length > {BETWEEN} drop
    }}
}}
"""


@contextmanager
def late_retransmission() -> Iterator[None]:
    """The peer sends nothing again within 2 s, on connections that are made here."""
    link = ("dev", Sim.peer)
    route = run("ip", "-n", Sim.netns, "-4", "route", "show", *link).splitlines()[0].split()
    replace = ("ip", "-n", Sim.netns, "route", "replace", *route, *link)
    run(*replace, "rto_min", "2s")
    try:
        yield
    finally:
        run(*replace)


def buffers_of(sock: socket.socket) -> int:
    """That lie in its queues: what each counts beside its page is less than one in all."""
    queued_bytes = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4), sys.byteorder)
    return queued_bytes // PAGE


@contextmanager
def all_out_of_order(ifq: pyzcrx.Ifq) -> Iterator[dict[pyzcrx.Request, bytes]]:
    """More connections than the area has buffers; each one's first segment is lost.

    The later ones wait for it, in a buffer each, so that there is none left for any first.
    """
    with ExitStack() as stack:
        stack.enter_context(late_retransmission())
        pairs = [stack.enter_context(connected()) for _ in range(PAGES + 4)]
        for client, _ in pairs:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            close_by_reset(client)
        sent = {ifq.receive(sock): bytearray() for _, sock in pairs}

        def send(size: int) -> None:
            for (client, _), data in zip(pairs, sent.values(), strict=True):
                piece = os.urandom(size)
                client.sendall(piece)
                data += piece

        subprocess.run(["nft", "-f", "-"], input=HOLD, text=True, check=True)
        try:
            send(FIRST)
            # Before the area is full there is a buffer for a first segment that comes late, or
            # once more. What finds none is lost, and so are more than a few that come together.
            deadline = time.monotonic() + PATIENCE_S
            while sum(buffers_of(sock) for _, sock in pairs) < PAGES:
                assert time.monotonic() < deadline, "the area did not become full"
                send(LATER)
                time.sleep(0.1)
        finally:
            run("nft", "delete", "table", "inet", "hold")
        yield {request: bytes(data) for request, data in sent.items()}


@pytest.mark.filterwarnings("ignore:the area has .* may keep:pyzcrx.errors.PressureWarning")
@pytest.mark.parametrize("policy", ["copy", "grow"])
def test_an_area_that_lies_in_sockets_out_of_order_grows(sim: Sim, policy: Policy) -> None:
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(PAGES << 12) as area,
    ):
        ifq = register(ring, area, pressure=policy)
        with all_out_of_order(ifq) as expected:
            got = {request: bytearray() for request in expected}
            deadline = time.monotonic() + 2 * PATIENCE_S
            while got != expected:
                assert time.monotonic() < deadline, sim.stuck()
                for event in ring.events(timeout=0.5):
                    assert isinstance(event, pyzcrx.Data), event
                    got[event.request] += event.buffer
                    event.buffer.release()
            assert 2 <= len(ifq.areas) <= 4
            ifq.audit()


@pytest.mark.filterwarnings("ignore:the area has .* may keep:pyzcrx.errors.PressureWarning")
def test_without_a_policy_it_is_said(sim: Sim) -> None:
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(PAGES << 12) as area,
    ):
        ifq = register(ring, area)

        def wait() -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not ifq._core.relief.warned:
                assert time.monotonic() < deadline, sim.stuck()
                assert ring.wait(0.5).size_bytes == 0

        with all_out_of_order(ifq):
            with pytest.warns(pyzcrx.errors.PressureWarning, match="wait for lost ones"):
                wait()
            assert ifq.areas == [area]

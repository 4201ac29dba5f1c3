"""Bytes from the NIC to the next hop without a copy: right whatever the peer and the network do."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import pyzcrx
from pyzcrx._send.send import Send
from pyzcrx.types import SendStats
from tests.guest.card import Sim, register, run
from tests.guest.echo import Echo, digest, exchange, exchange_many
from tests.guest.test_receive import connected, ifq_of, sending
from tests.guest.test_relay import Relay, upstream
from tests.leaks import nothing_leaks
from tests.long import rounds
from tests.patience import PATIENCE_S, START_S
from tests.sim.test_zero_copy import books, grown

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


def echo(ring: pyzcrx.Ring, ifq: pyzcrx.Ifq, sock: socket.socket, **options: Any) -> None:
    """Send back what *sock* brings, a turn's buffers in one send, until its peer is done."""
    request = ifq.receive(sock)
    while not request.over or ring.in_flight:
        batch = ring.wait(PATIENCE_S)
        buffers = [
            batch.buffer(run.request, i) for run in batch.runs() for i in range(run.start, run.stop)
        ]
        for event in batch.events:
            if isinstance(event, pyzcrx.Failed):
                raise event.error
        for at in range(0, len(buffers), 256):
            ring.send(sock, buffers[at : at + 256], **options)
        del buffers
    sock.shutdown(socket.SHUT_WR)


class LateReader(threading.Thread):
    """Reads to the end, once it is told to; keeps the digest."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self.go = threading.Event()
        self.data = bytearray()
        self.start()

    def run(self) -> None:
        self.go.wait(START_S)
        while chunk := self._sock.recv(1 << 16):
            self.data += chunk


def echoed(
    data: bytes,
    area_bytes: int,
    rcvbuf_bytes: int = 0,
    late: bool = False,
    poison: bool = False,
    **options: Any,
) -> tuple[bytes, SendStats]:
    """What comes back, to a reader that is *late*: only once the area is nearly used up.

    poison: what is given back is overwritten at once, as by what arrives next some time.
    """
    with connected(rcvbuf_bytes) as (client, sock), ifq_of(area_bytes) as (ring, ifq):
        ifq._core.account.poison = poison
        if late:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        reader = LateReader(client)
        if late:
            threading.Timer(2, reader.go.set).start()
        else:
            reader.go.set()
        with sending(client, data):
            echo(ring, ifq, sock, **options)
        reader.join(START_S)
        assert not reader.is_alive()
        ifq.audit()
        assert ifq._core.account.leased == 0
        return bytes(reader.data), ring.send_stats()


@pytest.mark.parametrize("zero_copy", [True, False, None])
def test_an_echo_of_any_way_is_exact(zero_copy: bool | None) -> None:
    data = os.urandom(16 * MIB)
    back, stats = echoed(data, 16 * MIB, zero_copy=zero_copy)
    assert back == data
    assert stats.accepted_bytes == stats.bytes_zero_copy + stats.bytes_copied == len(data)
    assert stats.unnotified_bytes == stats.abandoned_bytes == 0
    if zero_copy is not None:
        assert (stats.bytes_copied == 0) == zero_copy


def hazard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers go back when they were accepted, not when they were notified."""
    completed = Send._completed

    def too_early(send: Send, attempt: Any, res: int, more: bool) -> Any:
        event = completed(send, attempt, res, more)
        send._pieces.end()
        for buffer in send.buffers:
            if isinstance(buffer, pyzcrx.Buffer) and event is not None:
                buffer._let_go()
        return event

    monkeypatch.setattr(Send, "_completed", too_early)


@contextmanager
def losing(sim: Sim, rate: int) -> Iterator[None]:
    """*rate* of a million frames to the peer are lost."""
    drops = list((sim.faults.parents[1] / sim.peer).glob("*/drop"))
    assert drops
    for drop in drops:
        drop.write_text(f"{rate}\n")
    yield
    for drop in drops:
        drop.write_text("0\n")


@pytest.mark.parametrize("way", ["right", "too early"])
@pytest.mark.parametrize("trouble", ["slow reader", "loss"])
def test_buffers_go_back_only_with_the_notification(
    sim: Sim, monkeypatch: pytest.MonkeyPatch, way: str, trouble: str
) -> None:
    """The same two troubles: right with notifications, and seen to corrupt without.

    A frame that was lost is sent again soon, maybe before anything arrives where it lies. So
    there what is given back is poisoned.
    """
    data = os.urandom(16 * MIB)
    lost = trouble == "loss"
    if way == "too early":
        hazard(monkeypatch)
    with losing(sim, 20_000 if lost else 0):
        back, stats = echoed(data, 2 * MIB, 1 << 16, late=not lost, poison=lost, zero_copy=True)
    assert stats.accepted_bytes == len(data)
    assert stats.bytes_zero_copy > 0
    assert (back == data) == (way == "right")


@pytest.mark.parametrize("options", [("--rx-buf-len", "32K"), ("--rx-buf-len", "4K")], ids=str)
def test_the_echo_server_copies_nothing(sim: Sim, options: tuple[str, ...]) -> None:
    before = books(sim)
    block, times = os.urandom(16 * MIB), rounds(4, 16)
    with Echo("--zero-copy", "always", *options) as server, server.connect() as sock:
        assert exchange_many(sock, block, times) == digest(block, times)
        stats = server.stop()
    nothing_copied(sim, before, stats, times * len(block))


def nothing_copied(sim: Sim, before: dict[str, int], stats: dict[str, Any], sent: int) -> None:
    """By the card's counters, the kernel's, and those of the sends."""
    say = grown(sim, before)
    assert (say["page_bytes"], say["linear_bytes"], stats["bytes_copied"]) == (0, 0, 0)
    assert stats["sent"]["bytes_zero_copy"] == sent
    assert (stats["sent"]["bytes_copied"], stats["sent"]["bytes_reported_copied"]) == (0, 0)


@pytest.mark.parametrize("lost", [0, 20_000])
def test_the_relay_copies_nothing(sim: Sim, lost: int) -> None:
    before = books(sim)
    block, times = os.urandom(16 * MIB), rounds(1, 16)
    with upstream() as server, Relay(server.port, "--zero-copy", "always") as relay:
        with losing(sim, lost), relay.connect() as sock:
            assert exchange_many(sock, block, times) == digest(block, times)
        stats = relay.stop()
    # Both directions are received on our queue: the rule steers the flow to it, RSS the rest.
    nothing_copied(sim, before, stats, 2 * times * len(block))


def frames(sim: Sim, mtu: int, pack: str) -> None:
    for prefix, device in (("ip",), sim.interface), (("ip", "-n", sim.netns), sim.peer):
        run(*prefix, "link", "set", device, "mtu", str(mtu))
    run("ethtool", "--set-priv-flags", sim.interface, "rx-pack", pack)


@pytest.fixture
def packed(sim: Sim) -> Iterator[None]:
    """Frames of 9000 bytes lie one behind the other in a buffer."""
    frames(sim, 9000, "on")
    yield
    frames(sim, 1500, "off")


@pytest.mark.usefixtures("packed")
def test_large_buffers_make_the_echo_server_choose_zero_copy() -> None:
    with Echo("--rx-buf-len", "32K") as server, server.connect() as sock:
        data = os.urandom(16 * MIB)
        assert exchange(sock, data) == data
        large = server.stop()["sent"]
    with Echo("--rx-buf-len", "4K") as server, server.connect() as sock:
        assert exchange(sock, data) == data
        small = server.stop()["sent"]
    assert large["bytes_zero_copy"] > 0.8 * len(data), large
    # Neighbouring pages are one piece, so there the rule may go either way.
    assert small["bytes_zero_copy"] + small["bytes_copied"] == len(data), small


# -- ends with bytes in flight ------------------------------------------------------------


@contextmanager
def in_flight() -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Area, socket.socket, socket.socket, bytes]]:
    """A peer that does not read, and as much on its way to it as there is room for."""
    data = os.urandom(4 * MIB)
    with connected() as (client, sock), pyzcrx.Area.anonymous(8 * MIB) as area:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        ring = pyzcrx.Ring()
        ifq = register(ring, area)
        ifq.receive(sock, limit=len(data))
        with sending(client, data):
            buffers = [e.buffer for e in ring.events() if isinstance(e, pyzcrx.Data)]
        for at in range(0, len(buffers), 64):
            ring.send(sock, buffers[at : at + 64], zero_copy=True)
        del buffers
        while any(ring.events(timeout=0.2)):
            pass
        assert ring.send_stats().unnotified_bytes > 0
        yield ring, area, client, sock, data
        ring.close()


def read_out(client: socket.socket) -> tuple[bytes, bool]:
    """What the peer gets, and whether a reset ends it."""
    data = bytearray()
    client.settimeout(START_S)
    try:
        while chunk := client.recv(1 << 16):
            data += chunk
    except ConnectionResetError:
        return bytes(data), True
    return bytes(data), False


def test_the_ring_closes_on_a_peer_that_never_reads() -> None:
    with in_flight() as (ring, area, client, _sock, data):
        ring.close()
        stats = ring.send_stats()
        assert (stats.unnotified_bytes, stats.abandoned_bytes) == (0, 0)
        # At once, and written all over: what the peer still gets is right, or a reset.
        with pyzcrx.Ring() as again:
            register(again, area)
            area.view[:] = b"\xee" * len(area.view)
        got, reset = read_out(client)
        assert reset
        assert data.startswith(got)


def test_the_ring_closes_on_a_peer_that_reads_in_time() -> None:
    with in_flight() as (ring, area, client, sock, data):
        reader = LateReader(client)
        reader.go.set()
        list(ring.events())
        ring.close()
        area.view[:] = b"\xee" * len(area.view)
        sock.shutdown(socket.SHUT_WR)
        reader.join(START_S)
        assert bytes(reader.data) == data


@pytest.mark.parametrize("by", ["reset", "abort", "finish"])
def test_the_connection_ends_while_bytes_are_in_flight(by: str) -> None:
    with in_flight() as (ring, area, client, sock, _data):
        sends = [each for each in ring._traffic.sends.values() if isinstance(each, Send)]
        if by == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        elif by == "abort":
            sends[0].abort()
        else:
            client.close()  # with bytes unread: a reset
        for _ in ring.events(timeout=PATIENCE_S):
            pass
        assert all(send.done for send in sends)
        assert ring.send_stats().unnotified_bytes == 0
        assert ring.ifqs[0]._core.account.leased == 0
        ring.ifqs[0].audit()
        sock.close()
        assert area.size_bytes


def resets(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@pytest.mark.parametrize("state", ["at once", "half sent", "half read", "finished"])
def test_a_reset_in_every_state_ends_one_connection(state: str) -> None:
    data = os.urandom(MIB)
    with Echo("--zero-copy", "always") as server:
        for _ in range(8):
            sock = server.connect()
            if state != "at once":
                sender = threading.Thread(target=send_quietly, args=(sock, data), daemon=True)
                sender.start()
                if state != "half sent":
                    sock.recv(1 << 16)
                if state == "finished":
                    sender.join(1)
            resets(sock)
        with server.connect() as sock:
            assert exchange(sock, data) == data
        stats = server.stop()
    assert stats["sent"]["unnotified_bytes"] == stats["sent"]["abandoned_bytes"] == 0


def send_quietly(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        sock.sendall(data)

"""On a card every byte of payload lands in the area: by the card's own books."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx.uapi import OFFSET_MASK
from tests.guest.card import Sim, register, run
from tests.guest.echo import Echo, crowd, exchange, send_all
from tests.guest.test_receive import connected, sending
from tests.long import rounds
from tests.patience import PATIENCE_S, START_S

MIB = 1 << 20


def books(sim: Sim) -> dict[str, int]:
    """Bytes of TCP payload that came to our queue, by where the card put them."""
    names = ("zc_bytes", "page_bytes", "linear_bytes")
    return {name: sim.counter(f"rx{sim.queue}_{name}") for name in names}


def grown(sim: Sim, before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in books(sim).items()}


def received(ring: pyzcrx.Ring) -> bytes:
    data = bytearray()
    for event in ring.events():
        match event:
            case pyzcrx.Data(buffer=buffer):
                data += buffer
                buffer.release()
            case pyzcrx.Failed(error=error):
                raise error
    return bytes(data)


@pytest.mark.parametrize("mtu", [1500, 9000, 65535])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_all_of_the_payload_is_zero_copied(sim: Sim, mtu: int, family: int) -> None:
    data = os.urandom(8 * MIB)
    server = sim.server if family == socket.AF_INET else sim.server_v6
    for prefix, device in ((), "zcrx0"), (("-n", sim.netns), "zcrx1"):
        run("ip", *prefix, "link", "set", device, "mtu", str(mtu))
    try:
        with (
            socket.create_server((server, 0), family=family) as listener,
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(16 * MIB) as area,
            sim.socket(family) as client,
        ):
            ifq = register(ring, area)
            client.connect(listener.getsockname()[:2])
            sock, _ = listener.accept()
            before = books(sim)
            with sock, sending(client, data):
                ifq.receive(sock)
                assert received(ring) == data
            books_say = grown(sim, before)
            assert books_say["page_bytes"] == 0
            assert books_say["linear_bytes"] == 0
            assert books_say["zc_bytes"] >= len(data)  # retransmissions come on top
            assert ifq.stats().bytes_copied == 0
    finally:
        for prefix, device in ((), "zcrx0"), (("-n", sim.netns), "zcrx1"):
            run("ip", *prefix, "link", "set", device, "mtu", "1500")


def test_echo_is_zero_copied(sim: Sim) -> None:
    before = books(sim)
    with Echo() as echo:
        sent = crowd(echo.port, 16, 512 << 10, seed=3)
    books_say = grown(sim, before)
    assert books_say["page_bytes"] == 0
    assert books_say["linear_bytes"] == 0
    assert books_say["zc_bytes"] >= sent  # retransmissions come on top
    assert echo.stats["bytes_copied"] == 0
    assert echo.stats["bytes_zero_copy"] is None  # the kernel cannot tell


@pytest.mark.parametrize("rx_buf_len", [4096, 8192, 16384, 32768, 65536])
def test_larger_buffers(sim: Sim, rx_buf_len: int) -> None:
    data = os.urandom(4 * MIB)
    with (
        connected() as (client, sock),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(64 * MIB, huge="thp") as area,
    ):
        ifq = register(ring, area, rx_buf_len=rx_buf_len)
        assert ifq.rx_buf_len == rx_buf_len
        before = books(sim)
        with sending(client, data):
            ifq.receive(sock)
            assert received(ring) == data
        assert grown(sim, before)["zc_bytes"] >= len(data)


@pytest.mark.parametrize(("merging", "rx_buf_len"), [("on", 8192), ("off", 4096)])
def test_buffers_are_as_large_as_pays(sim: Sim, merging: str, rx_buf_len: int) -> None:
    data = os.urandom(4 * MIB)
    run("ethtool", "-K", sim.interface, "rx-gro-hw", merging)
    try:
        with (
            connected() as (client, sock),
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(128 * MIB) as area,
        ):
            ifq = register(ring, area)
            assert ifq.rx_buf_len == rx_buf_len
            with sending(client, data):
                ifq.receive(sock)
                assert received(ring) == data
            ifq.audit()
    finally:
        run("ethtool", "-K", sim.interface, "rx-gro-hw", "on")


def test_a_buffer_size_beyond_the_card_is_typed(sim: Sim) -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(64 * MIB, huge="thp") as area:
        sim.queue_free()
        with pytest.raises(pyzcrx.KernelError, match="rx_buf_len"):
            ring.register_ifq(area, rx_buf_len=1 << 20, **sim.register)
        ring.register_ifq(area, timeout=PATIENCE_S, **sim.register)


def test_a_queue_that_is_bound_and_one_that_does_not_exist(sim: Sim) -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 * MIB) as area:
        register(ring, area)
        with pyzcrx.Ring() as second, pyzcrx.Area.anonymous(4 * MIB) as other:
            with pytest.raises(pyzcrx.errors.QueueBound):
                second.register_ifq(other, **sim.register)
            with pytest.raises(pyzcrx.KernelError):
                second.register_ifq(other, interface=sim.interface, rx_queue=5000)


def test_without_header_split_registration_is_refused_with_the_hint(sim: Sim) -> None:
    sim.queue_free()
    run("ethtool", "-G", sim.interface, "tcp-data-split", "off")
    try:
        with (
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(4 * MIB) as area,
            pytest.raises(pyzcrx.errors.InvalidRequest, match="header split"),
        ):
            ring.register_ifq(area, **sim.register)
    finally:
        run("ethtool", "-G", sim.interface, "tcp-data-split", "on")


def test_several_ifqs_on_several_queues(sim: Sim) -> None:
    queues = (sim.queue, sim.queue + 1)
    sim.queue_free()
    rules = []
    with pyzcrx.Ring() as ring:
        ifqs, clients, socks = [], [], []
        try:
            for queue in queues:
                area = pyzcrx.Area.anonymous(4 * MIB)
                ifqs.append(
                    ring.register_ifq(
                        area, interface=sim.interface, rx_queue=queue, timeout=PATIENCE_S
                    )
                )
                listener = socket.create_server((sim.server, 0))
                port = listener.getsockname()[1]
                told = run(
                    "ethtool",
                    "-N",
                    sim.interface,
                    "flow-type",
                    "tcp4",
                    "dst-port",
                    str(port),
                    "action",
                    str(queue),
                )
                rules.append(told.split()[-1])
                clients.append(sim.socket())
                clients[-1].connect((sim.server, port))
                socks.append(listener.accept()[0])
                listener.close()
            streams = [os.urandom(MIB) for _ in queues]
            got = {id(ifq): bytearray() for ifq in ifqs}
            for ifq, sock, client, data in zip(ifqs, socks, clients, streams, strict=True):
                ifq.receive(sock)
                client.setblocking(True)
                threading.Thread(target=send_all, args=(client, data)).start()
            for event in ring.events():
                if isinstance(event, pyzcrx.Data):
                    got[id(event.request.ifq)] += event.buffer
                    event.buffer.release()
            assert [bytes(data) for data in got.values()] == streams
            assert [ifq._core.account.leased for ifq in ifqs] == [0, 0]
        finally:
            for rule in rules:
                run("ethtool", "-N", sim.interface, "delete", rule)
            for sock in (*clients, *socks):
                sock.close()


def test_areas_added_while_bound_are_used() -> None:
    data = os.urandom(8 * MIB)
    with (
        connected() as (client, sock),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(4 * MIB) as area,
        pyzcrx.Area.anonymous(16 * MIB) as more,
    ):
        ifq = register(ring, area)
        ifq.add_area(more)
        got, tokens, held = bytearray(), set(), []
        with sending(client, data):
            ifq.receive(sock)
            for event in ring.events():
                assert not isinstance(event, pyzcrx.Failed), event
                if isinstance(event, pyzcrx.Data):
                    got += event.buffer
                    tokens.add(event.buffer.off >> 48)
                    held.append(event.buffer)  # more than the first area has
        for buffer in held:
            buffer.release()
        assert got == data
        assert tokens == {0, 1}


def test_a_dmabuf_area() -> None:
    data = os.urandom(4 * MIB)
    with (
        connected() as (client, sock),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.udmabuf(16 * MIB) as area,
    ):
        ifq = register(ring, area)
        with sending(client, data):
            ifq.receive(sock)
            assert received(ring) == data


@pytest.mark.parametrize("debug", [False, True])
def test_a_dmabuf_of_another_device_is_received_into_and_never_read(debug: bool) -> None:
    """udmabuf stands in for the device: its own mapping shows what the NIC wrote."""
    data = os.urandom(4 * MIB)
    with (
        connected() as (client, sock),
        pyzcrx.Area.udmabuf(16 * MIB) as device,
        pyzcrx.Ring(debug=debug) as ring,
        pyzcrx.Area.from_dmabuf(device.fd, 16 * MIB) as area,
    ):
        ifq = register(ring, area)
        got = bytearray()
        with sending(client, data):
            ifq.receive(sock)
            for event in ring.events(timeout=PATIENCE_S):
                if isinstance(event, pyzcrx.Data):
                    buffer = event.buffer
                    with pytest.raises(errors.UnreadableMemory):
                        buffer.view()
                    at = buffer.off & OFFSET_MASK
                    got += device.view[at : at + len(buffer)]
                    buffer.release()
        assert got == data
        ifq.audit()
        assert ifq._core.account.leased == 0
        with pytest.raises(errors.UnreadableMemory):
            ifq.stream(sock)


def test_a_dmabuf_that_the_kernel_refuses() -> None:
    with pyzcrx.Area.udmabuf(MIB) as device, pyzcrx.Ring() as ring:
        with pytest.raises(errors.BadArgument, match="has 1048576 bytes, not 2097152"):
            pyzcrx.Area.from_dmabuf(device.fd, 2 * MIB)
        with pyzcrx.Area.from_dmabuf(device.fd) as area:
            assert area.size_bytes == MIB
            with pytest.raises(errors.BadArgument, match="needs a NIC"):
                ring.register_ifq(area)
            for wrong in (MIB // 2, 2 * MIB):
                area.size_bytes = wrong
                with pytest.raises(errors.InvalidRequest):
                    register(ring, area)
            area.size_bytes = MIB
            os.close(area.fd)  # the area's own is another
            register(ring, area)


def test_kill_under_load_gives_the_queue_back_and_a_restart_at_once_succeeds() -> None:
    port = 0
    for _ in range(rounds(10, 100)):
        with Echo(port=port) as echo:
            port = echo.port
            client = echo.connect()
            client.settimeout(START_S)
            client.sendall(os.urandom(256 << 10))
            assert client.recv(100)
            echo.kill()
            client.close()
    with Echo(port=port) as echo, echo.connect() as sock:
        assert exchange(sock, b"back") == b"back"


def test_link_down_and_up_keeps_the_binding(sim: Sim) -> None:
    data = os.urandom(2 * MIB)
    with Echo() as echo, echo.connect() as sock:
        assert sock.send(b"first") == 5
        assert sock.recv(5) == b"first"
        run("ip", "link", "set", sim.interface, "down")
        time.sleep(0.1)
        run("ip", "link", "set", sim.interface, "up")
        assert exchange(sock, data) == data


def test_a_plain_recv_on_a_steered_socket_fails_and_says_nothing_clean() -> None:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 * MIB) as area:
        register(ring, area)
        with connected() as (client, sock):
            sock.settimeout(PATIENCE_S)
            client.sendall(bytes(100_000))
            with pytest.raises(OSError, match="Bad address"):
                sock.recv(1000)

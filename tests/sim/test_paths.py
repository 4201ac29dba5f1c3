"""Packets whose payload lies in an area, and the paths they take other than to RECV_ZC.

docs/explanation/paths.md says what each test here shows.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import pyzcrx
from tests.guest.card import PATIENCE_S, Sim, run, socket_in
from tests.guest.echo import Echo, exchange, send_all
from tests.guest.test_receive import connected, ifq_of, sending
from tests.namespaces import namespace
from tests.patience import until
from tests.sim.removal import close_by_reset
from tests.sim.test_zero_copy import books, grown, received

MIB = 1 << 20
SO_MEMINFO = 55
TCP_ULP = 31
SOL_TLS = 282
TLS_RX = 2
LATE_US = 500_000


def unread(sock: socket.socket) -> int:
    """Bytes that arrived and were not received (SIOCINQ)."""
    return int(pyzcrx._kernel._ffi.lib.pz_unread(sock.fileno()))


def retransmits(sock: socket.socket) -> int:
    """How often in a row nothing was acknowledged (tcp_info.tcpi_retransmits)."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[2]


# -- urgent data: a peer must not bring the kernel down -----------------------------------


@pytest.mark.parametrize("when", ["before listening", "by receive"])
def test_a_socket_filter_alone_keeps_the_kernel_up(when: str) -> None:
    with ifq_of() as (ring, ifq), socket.create_server((Sim.server, 0)) as listener:
        if when == "before listening":
            pyzcrx.drop_urgent(listener)
        with Sim().socket() as client:
            client.connect(listener.getsockname())
            sock, _ = listener.accept()
            with sock:
                ifq.receive(sock)
                client.sendall(b"abc")
                assert bytes(next(iter(data(ring)))) == b"abc"
                client.send(b"d", socket.MSG_OOB)
                client.sendall(b"efghi")
                until(lambda: dropped(sock) > 1, "no segment was dropped")
                # Neither an end nor a byte from behind the hole.
                assert list(ring.events(timeout=0)) == []
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                (failed,) = ring.events()
                assert isinstance(failed, pyzcrx.Failed)
                assert isinstance(failed.error, pyzcrx.PeerReset)


def data(ring: pyzcrx.Ring) -> Iterator[bytes]:
    for event in ring.events():
        assert isinstance(event, pyzcrx.Data), event
        yield bytes(event.buffer)
        event.buffer.release()


def dropped(sock: socket.socket) -> int:
    """Packets that were for this socket and did not get in (SK_MEMINFO_DROPS)."""
    drops = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]
    assert isinstance(drops, int)
    return drops


def test_the_rules_leave_the_checksum_right(sim: Sim) -> None:
    """Over a link whose receiver computes it: with veth and no offload."""
    with far(sim) as (sock_of, address), sim.urgent_defence():
        run("ip", "netns", "exec", "far", "ethtool", "-K", "farthest", "tx", "off")
        here = address.rsplit(".", 1)[0] + ".1"
        with ExitStack() as stack:
            client, sock = linked(stack, sock_of(), socket.socket(), here)
            for _ in range(50):
                client.send(os.urandom(101), socket.MSG_OOB)
            client.shutdown(socket.SHUT_WR)
            assert len(rest(sock)) == 50 * 101


# -- captured, forwarded, bridged ---------------------------------------------------------


def test_tcpdump_sees_headers_only(sim: Sim, tmp_path: Path) -> None:
    secret = os.urandom(64)
    capture = tmp_path / "capture"
    with Echo("--discard") as echo, echo.connect() as sock:
        dump = subprocess.Popen(
            [
                "tcpdump",
                "-i",
                sim.interface,
                "-Z",
                "root",
                "--immediate-mode",
                "-U",
                "-w",
                str(capture),
                "dst",
                "port",
                str(echo.port),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert dump.stderr is not None
        assert "listening on" in dump.stderr.readline()
        assert exchange(sock, secret * 10_000) == b""
        stats = echo.stop()
        until(lambda: capture.stat().st_size > 1000, "nothing was captured")
        dump.terminate()
        dump.communicate(timeout=PATIENCE_S)
    assert stats["bytes"] == 640_000
    assert stats["bytes_copied"] == 0
    seen = capture.read_bytes()
    assert secret[:16] not in seen
    packets = list(packets_of(seen))
    assert max(length for length, _ in packets) > 1000
    assert max(captured for _, captured in packets) < 120


def packets_of(pcap: bytes) -> Iterator[tuple[int, int]]:
    """Of each packet of a capture file, its length and how much of it was captured."""
    at = 24
    while at < len(pcap):
        captured, length = struct.unpack_from("II", pcap, at + 8)
        yield length, captured
        at += 16 + captured


def ip(command: str) -> None:
    run("ip", *command.split())


@contextmanager
def far(sim: Sim, *, card: bool = False) -> Iterator[tuple[Callable[[], socket.socket], str]]:
    """A third place behind this one: the namespace ``far``, 198.51.100.3.

    Linked to this end's 198.51.100.1 by veth, or by a second pair of simulated cards.
    Connections to it are made by :func:`linked`: their sockets must not outlive it.
    """
    with ExitStack() as stack:
        stack.enter_context(namespace("far"))
        if card:
            here, there = "zcrx2", "zcrx3"
            pairs = Path("/sys/bus/platform/drivers/zcrxsim")
            (pairs / "new_pair").write_text("1")
            stack.callback((pairs / "del_pair").write_text, "1")
            undo(stack, f"link set {there} netns far", f"-n far link set {there} netns 1")
        else:
            here, there = "near", "farthest"
            undo(stack, f"link add {here} type veth peer {there} netns far", f"link delete {here}")
        ip(f"address add 198.51.100.1/24 dev {here}")
        ip(f"-n far address add 198.51.100.3/24 dev {there}")
        ip(f"link set {here} up")
        ip(f"-n far link set {there} up")
        ip("-n far route add default via 198.51.100.1")
        route = f"198.51.100.0/24 via {sim.server}"
        undo(stack, f"-n {sim.netns} route add {route}", f"-n {sim.netns} route delete {route}")
        yield lambda: socket_in("far"), "198.51.100.3"


def undo(stack: ExitStack, done: str, undone: str) -> None:
    """ip *done* now, ip *undone* at the end."""
    ip(done)
    stack.callback(ip, undone)


def linked(
    stack: ExitStack, client: socket.socket, listener: socket.socket, address: str
) -> tuple[socket.socket, socket.socket]:
    """Connect *client* to *listener*, at *address*; the client and the accepted socket.

    All close at the end of *stack*, by a reset: the acknowledgement of a FIN is lost if the
    links go first, and the socket that waits for it keeps its namespace.
    """
    for sock in (listener, client):
        stack.enter_context(sock)
        close_by_reset(sock)  # an accepted socket inherits it
        sock.settimeout(PATIENCE_S)
    listener.bind((address, 0))
    listener.listen()
    client.connect(listener.getsockname())  # no payload: that passes where payload is dropped
    server = stack.enter_context(listener.accept()[0])
    server.settimeout(PATIENCE_S)
    return client, server


@contextmanager
def forwarding() -> Iterator[None]:
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text("0")


def stalls_while_bound(client: socket.socket, server: socket.socket, ring: pyzcrx.Ring) -> None:
    """*client* sends: nothing arrives until *ring* lets go of the queue, then all of it does."""
    sent = os.urandom(50_000)
    sender = threading.Thread(target=send_all, args=(client, sent))
    sender.start()
    until(lambda: retransmits(client) >= 2, "the sender was acknowledged")
    assert unread(server) == 0
    ring.close()
    assert rest(server) == sent
    sender.join()


def test_forwarded_packets_are_dropped_while_the_queue_is_bound(sim: Sim) -> None:
    with ExitStack() as stack:
        sock_of, address = stack.enter_context(far(sim))
        stack.enter_context(forwarding())
        ring, _ = stack.enter_context(ifq_of())
        stalls_while_bound(*linked(stack, sim.socket(), sock_of(), address), ring)


def test_no_socket_stays_in_a_place_whose_last_frames_are_late(sim: Sim) -> None:
    """They come when its links are gone. What ends the place looks for sockets."""
    with ExitStack() as stack:
        sock_of, address = stack.enter_context(far(sim))
        stack.enter_context(forwarding())
        client, server = linked(stack, sim.socket(), sock_of(), address)
        with sending(client, b"last"):
            assert rest(server) == b"last"
        sim.fault(delay=1_000_000, delay_us=LATE_US, payload_only=0)


def test_a_card_with_netmem_tx_forwards_them(sim: Sim) -> None:
    sent = os.urandom(MIB)
    with ExitStack() as stack:
        sock_of, address = stack.enter_context(far(sim, card=True))
        stack.enter_context(forwarding())
        stack.enter_context(ifq_of())
        client, server = linked(stack, sim.socket(), sock_of(), address)
        before = books(sim)
        with sending(client, sent):
            assert rest(server) == sent
        assert grown(sim, before)["zc_bytes"] >= MIB


def rest(sock: socket.socket) -> bytes:
    """All of the stream, to its end."""
    got = bytearray()
    while chunk := sock.recv(1 << 16):
        got += chunk
    return bytes(got)


def test_bridged_packets_are_dropped_and_those_for_us_are_received(sim: Sim) -> None:
    with ExitStack() as stack:
        sock_of, address = stack.enter_context(far(sim))
        undo(stack, "link add br0 type bridge", "link delete br0")
        ip("address delete 198.51.100.1/24 dev near")
        ip("address add 198.51.100.1/24 dev br0")
        direct = f"-n {sim.netns} address %s 198.51.100.2/32 peer 198.51.100.0/28 dev zcrx1"
        undo(stack, direct % "add", direct % "delete")
        undo(stack, f"link set {sim.interface} master br0", f"link set {sim.interface} nomaster")
        ip("link set near master br0")
        ip("link set br0 up")
        ring, ifq = stack.enter_context(ifq_of())

        # For the bridge itself: received, and not copied.
        sent, before = os.urandom(MIB), books(sim)
        client, sock = linked(stack, sim.socket(), socket.socket(), "198.51.100.1")
        with sending(client, sent):
            ifq.receive(sock)
            assert received(ring) == sent
        assert grown(sim, before)["zc_bytes"] >= MIB

        # For another port.
        stalls_while_bound(*linked(stack, sim.socket(), sock_of(), address), ring)


# -- readers other than RECV_ZC -----------------------------------------------------------


def test_plain_reads_of_a_steered_socket_fail_or_lie() -> None:
    with ifq_of() as (ring, ifq), connected() as (client, sock):
        client.sendall(bytes(10_000))
        until(lambda: unread(sock) == 10_000, "the data did not arrive")
        for flags in (0, socket.MSG_PEEK, socket.MSG_WAITALL):
            with pytest.raises(OSError, match="Bad address"):
                sock.recv(1000, flags)
        # A false end: 0 bytes, although 10,000 wait.
        read, write = os.pipe()
        assert os.splice(sock.fileno(), write, 1000) == 0
        os.close(read)
        os.close(write)
        # MSG_TRUNC throws them away and says that they were read.
        assert sock.recv_into(bytearray(1000), 1000, socket.MSG_TRUNC) == 1000
        assert unread(sock) == 9000
        # What was not thrown away can still be received.
        client.shutdown(socket.SHUT_WR)
        ifq.receive(sock)
        assert len(received(ring)) == 9000


def test_a_stranger_on_our_queue_loses_its_data_to_us(sim: Sim) -> None:
    """Another program's connection that a too wide rule steers to our queue."""
    secret = os.urandom(500)
    with ifq_of() as (ring, ifq), connected() as (client, stranger):
        client.sendall(secret)
        until(lambda: unread(stranger) == 500, "the data did not arrive")
        with pytest.raises(OSError, match="Bad address"):
            stranger.recv(1000)
        # We hear nothing of it, and could read it.
        assert list(ring.events(timeout=0)) == []
        assert ifq._core.account.leased == 0
        assert secret in bytes(ifq.area.view)
        # It keeps its buffers, and the queue comes back all the same.
        ring.close()
        sim.queue_free()
        with pytest.raises(OSError, match="Bad address"):
            stranger.recv(1000)
    with connected() as (client, stranger):
        client.sendall(secret)
        assert stranger.recv(1000) == secret


def test_a_datagram_on_our_queue_is_the_strangers_own(sim: Sim) -> None:
    """Header split is TCP's: UDP payload stays where the kernel can read it."""
    with ifq_of(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((sim.server, 0))
        stranger.settimeout(PATIENCE_S)
        port = stranger.getsockname()[1]
        run(
            *sim.client_prefix,
            "sh",
            "-c",
            f"head -c 1000 /dev/zero | nc -u -q 0 {sim.server} {port}",
        )
        assert stranger.recv(2000) == bytes(1000)


# -- sockets that are more than TCP -------------------------------------------------------


def kernel_tls(sock: socket.socket, *, receives: bool) -> None:
    """kTLS 1.2 with AES-128-GCM; its keys do not matter here."""
    run("modprobe", "tls")
    sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    if receives:
        crypto = struct.pack("HH8s16s4s8s", 0x0303, 51, bytes(8), bytes(16), bytes(4), bytes(8))
        sock.setsockopt(SOL_TLS, TLS_RX, crypto)


def test_kernel_tls_is_a_typed_error() -> None:
    with ifq_of() as (ring, ifq), connected() as (client, sock):
        kernel_tls(sock, receives=True)
        client.sendall(bytes(1000))
        ifq.receive(sock)
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.NotTcp)


def test_kernel_tls_begun_under_a_request_is_a_typed_error() -> None:
    with ifq_of() as (ring, ifq), connected() as (client, sock):
        request = ifq.receive(sock)
        ring.wait(0)
        kernel_tls(sock, receives=True)
        client.sendall(struct.pack(">BHH", 23, 0x0303, 100) + bytes(100))
        client.close()
        *_, failed = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.NotTcp)
        assert request.received == 0


def test_kernel_tls_that_only_sends_is_received() -> None:
    with ifq_of() as (ring, ifq), connected() as (client, sock):
        kernel_tls(sock, receives=False)
        with sending(client, bytes(10_000)):
            ifq.receive(sock)
            assert received(ring) == bytes(10_000)


def test_a_stranger_with_kernel_tls_on_our_queue_fails() -> None:
    with ifq_of() as (ring, _), connected() as (client, stranger):
        kernel_tls(stranger, receives=True)
        client.sendall(struct.pack(">BHH", 23, 0x0303, 100) + bytes(100))
        stranger.settimeout(PATIENCE_S)
        with pytest.raises(OSError, match="Bad"):
            stranger.recv(1000)
        assert list(ring.events(timeout=0)) == []


def test_mptcp_on_our_queue_is_a_typed_error_for_us_and_fails_for_strangers(sim: Sim) -> None:
    with (
        ifq_of() as (ring, ifq),
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP) as listener,
    ):
        listener.bind((sim.server, 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = subprocess.Popen(
            [
                *sim.client_prefix,
                "python3",
                "-c",
                "import socket, sys\n"
                "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)\n"
                f"s.connect(('{sim.server}', {port})); s.sendall(bytes(1000)); sys.stdin.read()",
            ],
            stdin=subprocess.PIPE,
        )
        sock, _ = listener.accept()
        with sock:
            with pytest.raises(pyzcrx.errors.NotTcp):
                ifq.receive(sock)
            sock.settimeout(PATIENCE_S)
            with pytest.raises(OSError, match="Bad address"):
                sock.recv(1000)
            client.communicate(timeout=PATIENCE_S)
        # A plain client of the same listener gets a plain socket.
        with sim.socket() as plain:
            plain.connect((sim.server, port))
            sock, _ = listener.accept()
            plain.sendall(b"plain")
            plain.shutdown(socket.SHUT_WR)
            with sock:
                ifq.receive(sock)
                assert received(ring) == b"plain"


# -- too early, too late, never -----------------------------------------------------------


def test_data_before_the_queue_was_bound_is_copied_and_the_rest_is_not(sim: Sim) -> None:
    # Early bytes that fit the window whatever memory their frames took: nobody reads them.
    early, late = os.urandom(20_000), os.urandom(100_000)
    sim.queue_free()
    with connected() as (client, sock):
        client.sendall(early)
        until(lambda: unread(sock) == len(early), "the data did not arrive")
        with ifq_of() as (ring, ifq):
            before = books(sim)
            with sending(client, late):
                ifq.receive(sock)
                assert received(ring) == early + late
            assert grown(sim, before)["zc_bytes"] >= len(late)
            copied = ifq.stats().bytes_copied
            assert copied is not None
            assert 0 < copied <= len(early)


def test_data_before_the_request_was_armed_is_not_copied(sim: Sim) -> None:
    early, late = os.urandom(20_000), os.urandom(100_000)
    with ifq_of() as (ring, ifq), connected() as (client, sock):
        before = books(sim)
        client.sendall(early)
        until(lambda: unread(sock) == len(early), "the data did not arrive")
        with sending(client, late):
            ifq.receive(sock)
            assert received(ring) == early + late
        assert grown(sim, before)["zc_bytes"] >= len(early + late)
        assert ifq.stats().bytes_copied == 0


def test_data_from_before_the_queue_was_bound_anew_is_a_typed_error(sim: Sim) -> None:
    with connected() as (client, sock):
        with ifq_of():
            client.sendall(bytes(10_000))
            until(lambda: unread(sock) == 10_000, "the data did not arrive")
        sim.queue_free()
        with ifq_of() as (ring, ifq):
            ifq.receive(sock)
            (failed,) = ring.events()
            assert isinstance(failed, pyzcrx.Failed)
            assert isinstance(failed.error, pyzcrx.errors.WrongQueue)


def test_connections_never_armed_hold_what_so_rcvbuf_allows() -> None:
    bound, n = 32 << 10, 40
    with ifq_of(area_bytes=16 * MIB) as (ring, ifq), ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((Sim.server, 0), backlog=n))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bound)
        idle = []
        for _ in range(n):
            client = stack.enter_context(Sim().socket())
            client.connect(listener.getsockname())
            idle.append((client, stack.enter_context(listener.accept()[0])))
            client.setblocking(False)
        for client, _ in idle:
            # As much as it takes, until its own buffer is full.
            with suppress(BlockingIOError):
                while True:
                    client.send(bytes(1 << 16))
        until(lambda: all(unread(sock) > 0 for _, sock in idle), "a connection got nothing")
        sent = os.urandom(4 * MIB)
        with connected() as (client, sock), sending(client, sent):
            ifq.receive(sock)
            assert received(ring) == sent
        held = [unread(sock) for _, sock in idle]
        assert max(held) <= 2 * bound
        assert sum(held) <= 16 * MIB // 4

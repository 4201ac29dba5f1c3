"""Sends that the kernel takes in part."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

import pyzcrx
from tests.patience import PATIENCE_S

MIB = 1 << 20


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends with little room between them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                server.settimeout(PATIENCE_S)
                yield client, server


class Reader(threading.Thread):
    """Reads to the end; hashes, or throws away without a copy where it is much."""

    def __init__(self, sock: socket.socket, *, hashes: bool = True) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._hashes = hashes
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self.start()

    def run(self) -> None:
        buffer = bytearray(MIB)
        while n := self._sock.recv_into(buffer):
            self.size_bytes += n
            if self._hashes:
                self.digest.update(memoryview(buffer)[:n])


def outcome(ring: pyzcrx.Ring) -> pyzcrx.Event:
    (event,) = ring.events(timeout=PATIENCE_S)
    return event


@pytest.mark.parametrize("timeout", [None, 0, PATIENCE_S], ids=["blocking", "nonblocking", "timed"])
@pytest.mark.parametrize("pieces", [[8 * MIB], [1, 0, 3 * MIB, 5, 0, 2 * MIB + 7]], ids=len)
def test_all_of_it_arrives(
    connection: tuple[socket.socket, socket.socket], timeout: float | None, pieces: list[int]
) -> None:
    client, server = connection
    client.settimeout(timeout)
    buffers = [os.urandom(size) for size in pieces]
    with pyzcrx.Ring() as ring:
        reader = Reader(server)
        ring.send(client, buffers)
        sent = outcome(ring)
        assert isinstance(sent, pyzcrx.Sent), sent
        assert sent.size_bytes == sum(pieces)
        client.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE_S)
        assert reader.size_bytes == sum(pieces)
        assert reader.digest.digest() == hashlib.sha256(b"".join(buffers)).digest()


def test_more_than_one_call_takes_goes_on() -> None:
    left, right = socket.socketpair()
    big = memoryview(bytearray(1 << 30))
    with left, right, pyzcrx.Ring() as ring:
        reader = Reader(right, hashes=False)
        ring.send(left, [big, big, big[:1]])
        sent = outcome(ring)
        assert isinstance(sent, pyzcrx.Sent), sent
        assert sent.size_bytes == (2 << 30) + 1
        left.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE_S)
        assert reader.size_bytes == (2 << 30) + 1


def test_a_peer_that_goes_on_the_way_fails_it(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, server = connection
    client.setblocking(False)
    with pyzcrx.Ring() as ring:
        ring.send(client, [bytes(8 * MIB)])
        ring.wait(0)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        failed = outcome(ring)
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.PeerReset)


def test_the_senders_own_end_is_told_as_that(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, _ = connection
    client.setblocking(False)
    client.shutdown(socket.SHUT_WR)
    with pyzcrx.Ring() as ring:
        ring.send(client, [b"too late"])
        failed = outcome(ring)
        assert isinstance(failed, pyzcrx.Failed)
        assert "EPIPE" in str(failed.error)


def test_a_number_that_is_taken_while_a_send_waits_gets_none_of_its_bytes(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, server = connection
    client.setblocking(False)
    left, right = socket.socketpair()
    right.setblocking(False)
    with left, right, pyzcrx.Ring() as ring:
        payload = os.urandom(4 * MIB)
        ring.send(client, [payload])
        ring.wait(0)  # as much as there is room for
        number = client.detach()
        os.dup2(left.fileno(), number)
        reader = Reader(server)
        sent = outcome(ring)
        os.close(number)
        assert isinstance(sent, pyzcrx.Sent), sent
        reader.join(PATIENCE_S)  # the send's own descriptor was the last: FIN
        assert reader.digest.digest() == hashlib.sha256(payload).digest()
        with pytest.raises(BlockingIOError):
            right.recv(1)


def test_the_ring_closed_lets_go_of_buffers_and_sockets(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, server = connection
    payload = bytearray(8 * MIB)
    ring = pyzcrx.Ring()
    ring.send(client, [payload])
    ring.wait(0)
    ring.close()
    payload.extend(b"x")  # which a view would refuse
    client.close()
    reader = Reader(server)
    reader.join(PATIENCE_S)
    assert not reader.is_alive()  # FIN: nobody holds the connection

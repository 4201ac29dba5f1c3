"""Sockets whose numbers go to others while their requests are in flight."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

import pyzcrx
from tests.guest.card import register
from tests.guest.test_receive import connected, ifq_of, sending
from tests.leaks import nothing_leaks
from tests.patience import PATIENCE_S

SIZE = 64 * 1024


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


def received(ring: pyzcrx.Ring, most: int | None = None) -> dict[object, bytes | pyzcrx.Event]:
    """What each request, by its context, was given, until all are over or *most* bytes came."""
    found: dict[object, bytearray] = {}
    ends: dict[object, pyzcrx.Event] = {}
    for event in ring.events(timeout=PATIENCE_S):
        if isinstance(event, pyzcrx.Data):
            found.setdefault(event.request.context, bytearray()).extend(event.buffer.view())
            event.buffer.release()
            if most is not None and sum(map(len, found.values())) >= most:
                break
        else:
            ends[event.request.context] = event
    return {context: bytes(data) for context, data in found.items()} | {
        (context, "end"): event for context, event in ends.items()
    }


@pytest.fixture
def two() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with connected() as first, connected() as second:
        yield [first, second]


def test_data_of_the_number_s_new_socket_goes_to_nobody_else(
    two: list[tuple[socket.socket, socket.socket]],
) -> None:
    (client, server), (other_client, other) = two
    payload = os.urandom(SIZE)
    # So few completions that the request is armed again and again.
    with pyzcrx.Ring(cq_entries=8, sq_entries=8) as ring, pyzcrx.Area.anonymous(4 << 20) as area:
        ifq = register(ring, area)
        ifq.receive(server, context="first")
        ring.wait(0)
        number = server.detach()
        os.dup2(other.fileno(), number)
        other_client.sendall(b"a secret of the second")
        with sending(client, payload):
            found = received(ring)
        os.close(number)
        assert list(found) == ["first", ("first", "end")]
        assert found["first"] == payload
        assert isinstance(found["first", "end"], pyzcrx.End)


def test_an_end_is_clean_although_the_number_s_new_socket_has_bytes_unread(
    two: list[tuple[socket.socket, socket.socket]],
) -> None:
    (client, server), (other_client, other) = two
    with ifq_of() as (ring, ifq):
        ifq.receive(server, context="first")
        ring.wait(0)
        number = server.detach()
        os.dup2(other.fileno(), number)
        other_client.sendall(b"unread")
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        found = received(ring)
        os.close(number)
        assert found["first"] == b"all of it"
        assert isinstance(found["first", "end"], pyzcrx.End)


def test_a_closed_socket_s_peer_sees_the_end_once_the_request_is_over() -> None:
    with connected() as (client, server), ifq_of() as (ring, ifq):
        client.settimeout(PATIENCE_S)
        request = ifq.receive(server, context="first")
        ring.wait(0)
        server.close()
        client.sendall(b"still received")
        assert received(ring, 14) == {"first": b"still received"}
        request.cancel()
        end = received(ring)["first", "end"]
        assert isinstance(end, pyzcrx.Failed)
        assert isinstance(end.error, pyzcrx.errors.Cancelled)
        assert client.recv(1) == b""


@pytest.mark.parametrize("how", ["end", "limit", "cancelled", "ring closed"])
def test_nothing_holds_the_connection_afterwards(how: str) -> None:
    with connected() as (client, server), ifq_of() as (ring, ifq):
        client.settimeout(PATIENCE_S)
        request = ifq.receive(server, limit=1 if how == "limit" else None, context="r")
        ring.wait(0)
        if how == "limit":
            client.sendall(b"x")
        elif how == "end":
            client.shutdown(socket.SHUT_WR)
        elif how == "cancelled":
            request.cancel()
        if how == "ring closed":
            ring.close()
        else:
            assert ("r", "end") in received(ring)
        server.close()
        assert client.recv(1) == b""


def test_a_request_at_its_limit_is_not_resumed_on_another_socket(
    two: list[tuple[socket.socket, socket.socket]],
) -> None:
    (client, server), (_, other) = two
    with ifq_of() as (ring, ifq):
        client.sendall(b"four")
        request = ifq.receive(server, limit=2, context="r")
        assert received(ring)["r"] == b"fo"
        request.resume(2)  # the same socket
        assert received(ring)["r"] == b"ur"
        number = server.detach()
        os.dup2(other.fileno(), number)
        with pytest.raises(pyzcrx.ClosedError, match="another file"):
            request.resume()
        os.close(number)
        with pytest.raises(pyzcrx.errors.NotConnected, match="closed"):
            request.resume()
        assert request.over


def test_a_listener_s_number_taken_accepts_nothing_of_the_new_one() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
        pyzcrx.Ring(cq_entries=8, sq_entries=8) as ring,
    ):
        address = first.getsockname()
        accept = ring.accept(first)
        ring.wait(0)
        number = first.detach()
        os.dup2(second.fileno(), number)
        with socket.create_connection(second.getsockname()):
            clients = [socket.create_connection(address) for _ in range(20)]
            for _, event in zip(clients, ring.events(timeout=PATIENCE_S), strict=False):
                assert isinstance(event, pyzcrx.Accepted)
                with socket.socket(fileno=event.fd) as sock:
                    assert sock.getsockname() == address
            assert not list(ring.events(timeout=0))
        accept.cancel()
        assert len(list(ring.events(timeout=PATIENCE_S))) == 1
        os.close(number)
        for client in clients:
            client.close()


@pytest.mark.parametrize("read", [0, 4096], ids=["before the first read", "at its limit"])
def test_a_stream_reads_on_although_its_number_has_another_socket(
    two: list[tuple[socket.socket, socket.socket]], read: int
) -> None:
    """It is received by pieces: between two, the socket is still its own."""
    (client, server), (other_client, other) = two
    payload = os.urandom(SIZE)
    with ifq_of() as (_, ifq):
        stream = ifq.stream(server, room_bytes=2 * 4096, timeout=PATIENCE_S)
        with sending(client, payload):
            found = stream.read(read)
            number = server.detach()
            os.dup2(other.fileno(), number)
            other_client.sendall(b"a secret of the second")
            found += stream.read()
        stream.close()
        os.close(number)
        assert found == payload


@pytest.mark.parametrize("how", ["closed", "closed late", "dropped", "ring closed"])
@pytest.mark.parametrize("read", [0, 4096], ids=["before the first read", "at its limit"])
def test_no_stream_holds_the_connection_afterwards(how: str, read: int) -> None:
    with connected() as (client, server), ifq_of() as (ring, ifq):
        client.settimeout(PATIENCE_S)
        stream = ifq.stream(server, room_bytes=2 * 4096, timeout=PATIENCE_S)
        client.sendall(bytes(read))
        assert len(stream.read(read)) == read
        if how == "closed":
            stream.close()
        if how != "dropped":
            server.close()
        if how == "closed late":
            client.setblocking(False)
            with pytest.raises(BlockingIOError):  # as long as there is a stream, no end
                client.recv(1)
            client.settimeout(PATIENCE_S)
            stream.close()
        elif how == "ring closed":
            ring.close()
        elif how == "dropped":
            with pytest.warns(ResourceWarning, match="dropped without close"):
                del stream
            server.close()
            ring.wait(0)  # the next turn ends it
        assert client.recv(1) == b""

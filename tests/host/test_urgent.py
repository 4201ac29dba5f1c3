"""The rules against urgent data stand in the docs as they are in the code."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx.urgent import NFT_RULES

SECURITY = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
SO_ATTACH_FILTER = SO_GET_FILTER = 26
SO_MEMINFO = 55
PATIENCE_S = 30


def test_the_docs_show_the_rules() -> None:
    assert NFT_RULES in SECURITY.read_text()


@pytest.fixture(autouse=True)
def _allowed() -> None:
    with socket.socket() as sock:
        try:
            pyzcrx.drop_urgent(sock)
        except pyzcrx.errors.NotPermitted:
            pytest.skip("expected: this kernel lets only CAP_NET_ADMIN filter TCP sockets")


def filter_length(sock: socket.socket) -> int:
    """Instructions of the socket's filter: getsockopt gives them as the length."""
    return len(sock.getsockopt(socket.SOL_SOCKET, SO_GET_FILTER, 1024))


def dropped(sock: socket.socket) -> int:
    """Packets that were for this socket and did not get in (SK_MEMINFO_DROPS)."""
    drops = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]
    assert isinstance(drops, int)
    return drops


def test_accepted_sockets_inherit_the_filter() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pyzcrx.drop_urgent(listener)
        with socket.create_connection(listener.getsockname()) as client:
            sock, _ = listener.accept()
            with sock:
                assert filter_length(sock) == filter_length(listener) == 4
                assert filter_length(client) == 0


def test_it_drops_urgent_data_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pyzcrx.drop_urgent(listener.fileno())
        with socket.create_connection(listener.getsockname()) as client:
            sock, _ = listener.accept()
            with sock:
                client.sendall(b"abc")
                assert sock.recv(10) == b"abc"
                client.send(b"d", socket.MSG_OOB)
                client.send(b"e")
                deadline = time.monotonic() + PATIENCE_S
                while not dropped(sock):
                    assert time.monotonic() < deadline, "no segment was dropped"
                    time.sleep(0.01)
                with pytest.raises(BlockingIOError):
                    sock.recv(10, socket.MSG_DONTWAIT)


def test_a_filter_of_the_users_own_stays() -> None:
    # One instruction: all of the packet.
    code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        pyzcrx.drop_urgent(sock)
        assert filter_length(sock) == 1


def test_what_is_no_socket_is_a_typed_error() -> None:
    with socket.socket() as closed:
        pass
    with pytest.raises(pyzcrx.errors.NotConnected):
        pyzcrx.drop_urgent(closed)
    with pytest.raises(pyzcrx.errors.BadArgument, match="descriptor"):
        pyzcrx.drop_urgent(-1)
    with open("/dev/null") as file, pytest.raises(pyzcrx.errors.NotTcp):
        pyzcrx.drop_urgent(file.fileno())

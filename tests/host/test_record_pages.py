"""What makes a stream arrive in whole pages, as this machine's TCP agrees to it."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from pyzcrx._kernel.memory import PAGE
from pyzcrx.record.pages import MSS, SCALE, Handshake, prepare, set_rcvbuf

PERFECT = Handshake(window_scale=SCALE, timestamps=True, segment_bytes=PAGE)


def accepted(*, prepared: bool, mss: int | None = None) -> Handshake:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if prepared:
            prepare(listener)
        if mss is not None:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as sock:
            return Handshake.of(sock)


def test_a_prepared_listener_asks_for_pages() -> None:
    found = accepted(prepared=True)
    assert found.segment_bytes == PAGE
    if os.geteuid() == 0:
        assert found.window_scale is not None
        assert found.window_scale >= SCALE
        assert found.advice() is None


def test_one_that_was_not_prepared_is_advised_of() -> None:
    plain = accepted(prepared=False)
    assert plain.segment_bytes > PAGE  # that of the loopback
    small = accepted(prepared=True, mss=1000)
    assert small.segment_bytes == 988
    assert "MTU allows segments of 988 bytes" in str(small.advice())


def test_what_is_not_tcp() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="not supported"):
        Handshake.of(ours)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segment_bytes": 1448}, f"mtu {MSS + 60} or more"),
        ({"window_scale": None}, "net.ipv4.tcp_window_scaling=1"),
        ({"window_scale": SCALE - 1}, "the window scale is 11, below 12"),
        ({"window_scale": 0}, "net.ipv4.tcp_rmem='4096 131072 134217728'"),
        ({"timestamps": False}, "net.ipv4.tcp_timestamps=1"),
    ],
)
def test_advice_has_cause_and_fix(changed: dict[str, int], said: str) -> None:
    assert PERFECT.advice() is None
    assert replace(PERFECT, window_scale=14).advice() is None
    assert said in str(replace(PERFECT, **changed).advice())  # type: ignore[arg-type]


def test_a_receive_buffer_beyond_the_limit() -> None:
    with open("/proc/sys/net/core/rmem_max") as file:
        most = int(file.read())
    with socket.socket() as sock:
        set_rcvbuf(sock, 4 * most)
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert found == (8 * most if os.geteuid() == 0 else 2 * most)

"""Streams on real TCP: what reads files, broken peers, readers that do not read, many at once."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import numpy
import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx._kernel._ffi import lib
from pyzcrx.types import Stream
from tests.guest.card import CARD
from tests.guest.echo import send_all
from tests.guest.test_receive import MIB, connected, ifq_of, sending
from tests.leaks import nothing_leaks
from tests.patience import START_S, until

AREA = 32 * MIB
SO_BUF_LOCK = 72

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


class Digest(io.RawIOBase):
    """A file that keeps only the SHA-256 of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: object, /) -> int:
        self.sha256.update(data)  # type: ignore[arg-type]
        return len(memoryview(data))  # type: ignore[arg-type]


def test_a_big_payload_through_copyfileobj() -> None:
    data = os.urandom(24 * MIB)
    with (
        connected() as (client, sock),
        sending(client, data),
        ifq_of(AREA) as (_, ifq),
        ifq.stream(sock) as stream,
    ):
        target = Digest()
        shutil.copyfileobj(stream, target)
        assert stream.at_end
        assert stream.statistics["gathered_bytes"] == len(data)
        assert CARD.copied(ifq.stats().as_dict())
    assert target.sha256.digest() == hashlib.sha256(data).digest()


def test_chunks_in_place() -> None:
    data = os.urandom(8 * MIB)
    received = hashlib.sha256()
    with (
        connected() as (client, sock),
        sending(client, data),
        ifq_of(AREA) as (_, ifq),
        ifq.stream(sock) as stream,
    ):
        for chunk in stream:
            with chunk:
                for view in chunk.views():
                    received.update(view)
        assert stream.statistics["viewed_bytes"] + stream.statistics["spilled_bytes"] >= len(data)
    assert received.digest() == hashlib.sha256(data).digest()


def test_many_pickles_in_a_row() -> None:
    objects = [{"n": n, "text": "x" * n, "array": numpy.arange(n)} for n in range(300)]
    data = b"".join(pickle.dumps(each, 5) for each in objects)
    with (
        connected() as (client, sock),
        sending(client, data),
        ifq_of(AREA) as (_, ifq),
        ifq.stream(sock) as stream,
    ):
        file = io.BufferedReader(stream)
        for each in objects:
            found = pickle.load(file)
            assert found["text"] == each["text"]
            assert (found["array"] == each["array"]).all()
        with pytest.raises(EOFError):
            pickle.load(file)


def test_framing_by_a_separator_and_by_length() -> None:
    rng = random.Random(1)
    bodies = [rng.randbytes(rng.choice([0, 1, 100, 5000, 70_000])) for _ in range(200)]
    data = b"".join(b"%d\r\n" % len(body) + body for body in bodies)
    with (
        connected() as (client, sock),
        sending(client, data),
        ifq_of(AREA) as (_, ifq),
        ifq.stream(sock) as stream,
    ):
        for body in bodies:
            size = int(stream.readuntil(b"\r\n"))
            assert stream.readexactly(size) == body
        with pytest.raises(errors.IncompleteRead) as caught:
            stream.readuntil(b"\r\n")
        assert caught.value.partial == b""


READS: dict[str, Callable[[Stream, io.BytesIO], object]] = {
    "read": lambda stream, rest: rest.write(stream.read()),
    "copyfileobj": lambda stream, rest: shutil.copyfileobj(stream, rest),
    "chunks": lambda stream, rest: rest.writelines(map(bytes, stream)),
}


@pytest.mark.parametrize("read", READS)
def test_a_peer_that_resets_in_the_middle_raises(read: str) -> None:
    data = os.urandom(100_000)
    with connected() as (client, sock), ifq_of(AREA) as (_, ifq), ifq.stream(sock) as stream:
        client.sendall(data)
        begun = stream.readexactly(1000)
        rest = io.BytesIO()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(pyzcrx.PeerReset):
            READS[read](stream, rest)
        assert not stream.at_end
        received = begun + rest.getvalue()
        assert received == data[: len(received)]


def test_a_reader_that_does_not_read_stops_its_peer_and_nobody_else() -> None:
    slow, quick = os.urandom(24 * MIB), os.urandom(2 * AREA)
    sent = 0

    def send(client: socket.socket) -> None:
        nonlocal sent
        client.settimeout(START_S)
        for at in range(0, len(slow), 1 << 16):
            client.sendall(slow[at : at + (1 << 16)])
            sent = at + (1 << 16)
        client.shutdown(socket.SHUT_WR)

    with (
        connected() as (one, sock),
        connected() as (other, other_sock),
        ifq_of(AREA) as (_, ifq),
    ):
        locks = sock.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK)
        thread = threading.Thread(target=send, args=(one,))
        with ifq.stream(sock) as unread, sending(other, quick), ifq.stream(other_sock) as stream:
            thread.start()
            first = unread.read(1)
            received = hashlib.sha256()
            held = 0
            while data := stream.read1():
                received.update(data)
                held = max(held, unread._chunks.nbytes)
            assert received.digest() == hashlib.sha256(quick).digest()
            assert held <= AREA // 8
            assert sent < len(slow), "its peer waits"
            rest = unread.read()
            assert unread.statistics["spilled_bytes"] <= len(slow)
        thread.join(START_S)
        assert not thread.is_alive()
        assert first + rest == slow
        assert sock.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK) == locks


def test_sixty_four_streams_on_one_ring() -> None:
    data = [os.urandom(512 << 10) for _ in range(64)]
    with ExitStack() as stack:
        pairs = [stack.enter_context(connected()) for _ in data]
        threads = [
            threading.Thread(target=send_all, args=(client, each))
            for (client, _), each in zip(pairs, data, strict=True)
        ]
        for thread in threads:
            thread.start()
        _, ifq = stack.enter_context(ifq_of(AREA))
        streams = [stack.enter_context(ifq.stream(sock)) for _, sock in pairs]
        received = [bytearray() for _ in data]
        while not all(stream.at_end for stream in streams):
            for into, stream in zip(received, streams, strict=True):
                into += stream.read(50_000)
        until(lambda: not any(thread.is_alive() for thread in threads), "senders hang")
        assert [bytes(each) for each in received] == data


def test_what_lies_in_sockets_of_unread_streams_does_not_stop_the_one_that_is_read() -> None:
    """Their segments took all of the area: none is left for the bytes that are waited for."""
    area = 4 * MIB
    # Each is more than its socket may hold.
    unread, wanted = [os.urandom(MIB // 4) for _ in range(24)], os.urandom(MIB)
    with ExitStack() as stack:
        pairs = [stack.enter_context(connected()) for _ in (*unread, wanted)]
        _, ifq = stack.enter_context(ifq_of(area))
        *streams, stream = [
            stack.enter_context(ifq.stream(sock, timeout=START_S)) for _, sock in pairs
        ]
        for (client, _), each in zip(pairs, unread, strict=False):
            stack.enter_context(sending(client, each))
        until(lambda: resting([sock for _, sock in pairs]), "the peers go on")
        stack.enter_context(sending(pairs[-1][0], wanted))
        assert stream.read() == wanted
        for other, expected in zip(streams, unread, strict=True):
            assert other.read() == expected


def test_bytes_from_before_the_binding_find_no_buffer_and_stop_no_stream() -> None:
    """They are to be copied into the area, all of which lies behind them in the sockets."""
    data = [os.urandom(144 << 10) for _ in range(48)]
    early = 16 << 10
    with ExitStack() as stack:
        pairs = [stack.enter_context(connected()) for _ in data]
        socks = [sock for _, sock in pairs]
        for (client, _), each in zip(pairs, data, strict=True):
            client.sendall(each[:early])
        until(lambda: all(lib.pz_unread(sock.fileno()) == early for sock in socks), "nothing comes")
        _, ifq = stack.enter_context(ifq_of(4 * MIB))
        streams = [stack.enter_context(ifq.stream(sock, timeout=START_S)) for sock in socks]
        for (client, _), each in zip(pairs, data, strict=True):
            stack.enter_context(sending(client, each[early:]))
        until(lambda: resting(socks), "the peers go on")
        for stream, expected in zip(streams, data, strict=True):
            assert stream.read() == expected
        assert ifq.total_bytes == sum(map(len, data))


def resting(socks: Sequence[socket.socket]) -> bool:
    """Whether no more arrives in their receive queues."""
    before = [lib.pz_unread(sock.fileno()) for sock in socks]
    time.sleep(0.3)
    return before == [lib.pz_unread(sock.fileno()) for sock in socks]

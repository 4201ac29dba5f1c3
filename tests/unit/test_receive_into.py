"""Bytes of a connection in memory of the caller's, on the kernel in memory."""

from __future__ import annotations

import array
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx._kernel.memory import PAGE
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.unit.test_model import receiving, settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@contextmanager
def connected(data: bytes, pages: int = 64) -> Iterator[tuple[pyzcrx.Ifq, ModelSocket]]:
    """A peer that sends *data*; all buffers are back in the end."""
    kernel = ModelKernel()
    with receiving(kernel, pages=pages) as (ring, ifq):
        sock = kernel.socket()
        sock.send(data)
        yield ifq, sock
        settled(kernel, ring, ifq)
        ifq.audit()


def pattern(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


@contextmanager
def in_array(size: int) -> Iterator[Any]:
    yield array.array("d", bytes(size))


@contextmanager
def in_mapped_file(size: int) -> Iterator[Any]:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as memory:
            yield memory
            file.seek(0)
            assert file.read() == bytes(memory)


@contextmanager
def in_shared_memory(size: int) -> Iterator[Any]:
    shared = SharedMemory(create=True, size=size)
    try:
        assert shared.buf is not None
        with shared.buf[:size] as memory:
            yield memory
    finally:
        shared.close()
        shared.unlink()


@contextmanager
def in_numpy(size: int) -> Iterator[Any]:
    numpy = pytest.importorskip("numpy")
    yield numpy.zeros((size // 16, 2), "f8")


@pytest.mark.parametrize("where", [in_array, in_mapped_file, in_shared_memory, in_numpy])
@pytest.mark.parametrize("size", [64, 3 * PAGE, 200 * PAGE])
def test_memory_is_filled_and_nothing_behind_it_is_taken(
    where: Callable[[int], Any], size: int
) -> None:
    data = pattern(size + 10)
    with connected(data) as (ifq, sock), where(size) as memory:
        assert ifq.receive_into(sock.fileno(), memory) == size
        assert memoryview(memory).cast("B") == data[:size]
        rest = bytearray(10)
        assert ifq.receive_into(sock.fileno(), rest) == 10
        assert rest == data[size:]


def test_the_end_of_the_stream_leaves_the_rest_as_it_was() -> None:
    with connected(b"short") as (ifq, sock):
        sock.finish()
        memory = bytearray(b"." * 8)
        assert ifq.receive_into(sock.fileno(), memory) == 5
        assert memory == b"short..."
        assert ifq.receive_into(sock.fileno(), memory) == 0


def test_other_connections_lose_nothing_by_it() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=64) as (ring, ifq):
        sock, other = kernel.socket(), kernel.socket()
        request = ifq.receive(other.fileno(), limit=10)
        other.send(b"for others")
        sock.send(pattern(50))
        assert ifq.receive_into(sock.fileno(), bytearray(50)) == 50
        got = bytearray()
        for event in ring.events(0):
            assert event.request is request
            if isinstance(event, pyzcrx.Data):
                with event.buffer as buffer:
                    got += buffer.view()
        assert got == b"for others"
        settled(kernel, ring, ifq)


def test_time_runs_out_and_buffers_go_back() -> None:
    with connected(b"abc") as (ifq, sock), pytest.raises(TimeoutError):
        ifq.receive_into(sock.fileno(), bytearray(4), timeout=0)


def test_a_failed_connection_raises_its_error() -> None:
    with connected(b"abc") as (ifq, sock):
        sock.reset()
        with pytest.raises(errors.ReceiveError):
            ifq.receive_into(sock.fileno(), bytearray(4))


@pytest.mark.parametrize("memory", [b"read-only", "text", None, 4, memoryview(bytearray(8))[::2]])
def test_memory_that_cannot_be_written(memory: Any) -> None:
    with connected(b"abc") as (ifq, sock):
        with pytest.raises(errors.BadArgument):
            ifq.receive_into(sock.fileno(), memory)
        assert ifq.receive_into(sock.fileno(), bytearray(3)) == 3


def test_no_bytes_at_all() -> None:
    with connected(b"abc") as (ifq, sock):
        assert ifq.receive_into(sock.fileno(), bytearray()) == 0
        assert ifq.receive_into(sock.fileno(), bytearray(3)) == 3

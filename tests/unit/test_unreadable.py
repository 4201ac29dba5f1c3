"""Areas that the CPU cannot read: whatever needs a view says so, and nothing touches them."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._lease import Account, Iovec, Span, gather, gather_into
from pyzcrx._queue.area import Area
from pyzcrx._receive import debug
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving

SIZE = 4 * PAGE
pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@pytest.fixture
def span() -> Iterator[Span]:
    mapping = Mapping.unreadable(SIZE)
    yield mapping.span
    mapping.close()


@pytest.fixture
def account() -> Account:
    return Account()


def numpy_of(buffer: Any) -> Any:
    return pytest.importorskip("numpy").frombuffer(buffer, "u1")


READERS: dict[str, Callable[[Any], Any]] = {
    "memoryview": memoryview,
    "view": lambda buffer: buffer.view(),
    "bytes": bytes,
    "bytearray": bytearray,
    "numpy": numpy_of,
    "ctypes": (ctypes.c_char * 8).from_buffer_copy,
    "a copy together": lambda buffer: gather([buffer], 8),
    "a copy into memory": lambda buffer: gather_into([buffer], bytearray(8)),
    "what a send reads": lambda buffer: Iovec((buffer,)),
    "a descriptor": lambda buffer: os.write(2, buffer),
    "a socket": lambda buffer: socket.socketpair()[0].send(buffer),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_gets_a_buffer_and_it_is_released_as_ever(
    span: Span, account: Account, reader: str
) -> None:
    account.take(1)
    buffer = pyzcrx.Buffer(account, span, PAGE, 100, PAGE)
    with pytest.raises(errors.UnreadableMemory, match="another device"):
        READERS[reader](buffer)
    assert (len(buffer), buffer.off, buffer.exports) == (100, PAGE, 0)
    buffer.release()
    assert account.returned() == [PAGE]
    with pytest.raises(errors.DoubleRelease):
        buffer.release()


def test_neither_copies_under_pressure_nor_debug_mode_touch_it(
    span: Span, account: Account
) -> None:
    account.take(1)
    account.copy_above, account.copies_limit, account.poison = 0, 1 << 20, True
    buffer = pyzcrx.Buffer(account, span, 0, PAGE, 0)
    assert not buffer.copied
    buffer.release()
    debug.poison(span, 0, PAGE)
    assert account.returned() == [0]


def test_the_memory_itself_has_no_view(span: Span) -> None:
    for make in (memoryview, Span, lambda memory: Span(memory, 0, 8, True)):
        with pytest.raises(errors.UnreadableMemory):
            make(span)
    assert span._unreadable
    assert span.exports == 0


def test_an_area_has_no_view_and_says_so() -> None:
    with Area(Mapping.unreadable(SIZE), dmabuf=True) as area:
        assert not area.readable
        with pytest.raises(errors.UnreadableMemory):
            area.view  # noqa: B018
    with pytest.raises(errors.ClosedError):
        area.readable  # noqa: B018
    with Area.anonymous(SIZE) as area:
        assert area.readable


@pytest.mark.parametrize("policy", ["copy", "grow"])
def test_pressure_that_copies_needs_a_readable_area(policy: Any) -> None:
    with (
        ModelKernel(),
        pyzcrx.Ring() as ring,
        Area(Mapping.unreadable(SIZE), dmabuf=True) as area,
        pytest.raises(errors.UnreadableMemory, match=policy),
    ):
        ring.register_ifq(area, pressure=policy)


def test_what_reads_bytes_is_refused_before_any_arrives(span: Span) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq), socket.socket() as listener:
        sock = kernel.socket()
        memories = list(ifq._core.queue.memories)
        ifq._core.queue.memories[:] = [span]
        refused: list[Callable[[], object]] = [
            lambda: ifq.stream(sock.fileno()),
            lambda: ifq.receive_into(sock.fileno(), bytearray(8)),
            lambda: pyzcrx.relay(ring, ifq, listener, ("127.0.0.1", 1)),
        ]
        for call in refused:
            with pytest.raises(errors.UnreadableMemory):
                call()
        ifq._core.queue.memories[:] = memories
        assert ring.in_flight == 0


def test_a_batch_shows_offsets_and_no_view(span: Span) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        sock = kernel.socket()
        sock.send(b"12345678")
        request = ifq.receive(sock.fileno(), limit=8)
        batch = ring.wait(0)
        memories, looks = list(ifq._core.queue.memories), list(ifq._core.queue.looks)
        ifq._core.queue.memories[:], ifq._core.queue.looks[:] = [span], [memoryview(b"")]
        assert list(batch.lengths) == [8]
        with pytest.raises(errors.UnreadableMemory):
            batch.view(request, 0)
        buffer = batch.buffer(request, 0)
        with pytest.raises(errors.UnreadableMemory):
            ring.send(kernel.socket().fileno(), buffer)
        buffer.release()
        ifq._core.queue.memories[:], ifq._core.queue.looks[:] = memories, looks
        batch.release()


# -- descriptors ---------------------------------------------------------------------


def opened(kind: str) -> int:
    if kind == "memfd":
        fd = os.memfd_create("no dmabuf")
        os.ftruncate(fd, SIZE)
        return fd
    if kind == "pipe":
        ends = os.pipe()
        os.close(ends[1])
        return ends[0]
    if kind == "socket":
        return socket.socket().detach()
    return os.open({"file": __file__, "device": "/dev/null", "folder": "/"}[kind], os.O_RDONLY)


@pytest.mark.parametrize("kind", ["file", "memfd", "pipe", "socket", "device", "folder"])
def test_what_is_no_dmabuf_is_refused(kind: str) -> None:
    fd = opened(kind)
    try:
        with pytest.raises(errors.BadArgument, match="no dmabuf"):
            Area.from_dmabuf(fd)
        os.fstat(fd)  # still the caller's
    finally:
        os.close(fd)


@pytest.mark.parametrize("fd", [-1, 1 << 31, "3", None, 2.0, True])
def test_descriptors_that_are_none(fd: Any) -> None:
    with pytest.raises(errors.BadArgument):
        Area.from_dmabuf(fd)


def test_a_closed_descriptor() -> None:
    fd = os.memfd_create("closed")
    os.close(fd)
    with pytest.raises(errors.BadArgument, match="not open"):
        Area.from_dmabuf(fd)


@pytest.mark.parametrize("size", [0, -PAGE, PAGE + 1, "4096"])
def test_lengths_that_no_area_has(size: Any) -> None:
    with pytest.raises(errors.BadArgument, match="area size"):
        Area.from_dmabuf(0, size)

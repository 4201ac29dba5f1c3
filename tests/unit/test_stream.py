"""A connection as a file, on the kernel in memory."""

from __future__ import annotations

import errno
import gzip
import io
import json
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyzcrx
from pyzcrx import errors
from pyzcrx._kernel.memory import PAGE
from pyzcrx._ring.columns import FRESH
from pyzcrx.testing import ModelKernel, ModelSocket
from pyzcrx.types import Chunk, Stream
from tests.unit.test_interruptions import Interrupt, Interrupted
from tests.unit.test_model import receiving, settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


@contextmanager
def streaming(
    *segments: bytes, finish: bool = True, pages: int = 64, cq_entries: int = 64, **options: Any
) -> Iterator[tuple[Stream, ModelSocket]]:
    """A stream of *segments*; everything is given back in the end."""
    kernel = ModelKernel(cq_entries=cq_entries)
    with receiving(kernel, pages=pages) as (ring, ifq):
        sock = kernel.socket()
        for segment in segments:
            sock.send(segment)
        if finish:
            sock.finish()
        timeout = None if finish else 0  # the model does not wait
        with ifq.stream(sock.fileno(), timeout=timeout, **options) as stream:
            yield stream, sock
        assert stream.closed
        settled(kernel, ring, ifq)
        ifq.audit()


def test_every_way_to_read() -> None:
    data = b"12345678line\nend;" + b"x" * 10
    with streaming(data[:3], data[3:11], data[11:]) as (stream, _):
        assert stream.readable()
        assert stream.readexactly(4) == b"1234"
        assert stream.read(4) == b"5678"
        assert stream.readline() == b"line\n"
        assert stream.readline(1) == b"e"
        assert stream.readuntil(b";") == b"nd;"
        memory = bytearray(4)
        assert stream.readinto(memory) == 4
        assert memory == b"xxxx"
        assert stream.read1(1) == b"x"
        assert not stream.at_end
        assert stream.read() == b"x" * 5
        assert stream.at_end
        assert (stream.read(), stream.read(5), stream.read1(), stream.readline()) == (b"",) * 4
        assert stream.readinto(memory) == 0
        assert list(stream) == []


def test_buffers_are_the_readers_to_release() -> None:
    with streaming(b"head" + b"a" * 6, b"b" * PAGE) as (stream, _):
        assert stream.readexactly(4) == b"head"
        kept = []
        for chunk in stream:
            with chunk:
                kept += [bytes(view) for view in chunk.views()]
        assert kept == [b"a" * 6, b"b" * PAGE]
        assert stream.statistics == {
            "viewed_bytes": 6 + PAGE,
            "gathered_bytes": 4,
            "spilled_bytes": 0,
        }


def test_a_buffer_outlives_its_stream() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = kernel.socket()
        sock.send(b"kept")
        with ifq.stream(sock.fileno(), timeout=0) as stream:
            chunk = next(stream)
        assert bytes(chunk) == b"kept"
        chunk.release()
        settled(kernel, ring, ifq)


def test_a_chunk_is_all_that_a_turn_brought_and_is_taken_from_the_front() -> None:
    data = b"head" + b"a" * PAGE + b"b" * 20
    with streaming(data[:PAGE], data[PAGE:]) as (stream, _):
        account = cast(pyzcrx.Ifq, stream._request.ifq)._core.account
        (chunk,) = stream
        assert chunk.nbytes == len(chunk) == len(data)
        assert b"".join(chunk.views()) == bytes(chunk) == data
        assert all(view.readonly for view in chunk.views())
        head = chunk.take(4)
        assert (bytes(head), len(chunk), account.leased) == (b"head", len(data) - 4, 2)
        assert chunk.take(PAGE) == data[4 : 4 + PAGE], "gathered across two buffers"
        assert account.leased == 2, "a view of the first, bytes of the second"
        assert bytes(chunk) == b"b" * 20
        del head
        assert account.leased == 1
        with pytest.raises(errors.BadArgument, match="21 bytes of 20"):
            chunk.take(21)
        view = chunk.take(20)
        chunk.release()
        assert (chunk.nbytes, bytes(view), account.leased) == (0, b"b" * 20, 1)
        del view
        assert account.leased == 0


def test_a_released_chunk_says_so() -> None:
    with streaming(b"x") as (stream, _):
        chunk = next(stream)
        with chunk:
            pass
        for use in (chunk.views, lambda: bytes(chunk), lambda: chunk.take(0)):
            with pytest.raises(pyzcrx.ClosedError, match="released"):
                use()
        with pytest.raises(errors.DoubleRelease):
            chunk.release()
        chunk._let_go()
        assert repr(chunk) == "<Chunk 0 bytes, released>"


def test_a_forgotten_chunk_comes_back() -> None:
    with streaming(b"x" * PAGE, b"y") as (stream, _):
        assert len(next(stream)) == PAGE + 1
        assert cast(pyzcrx.Ifq, stream._request.ifq)._core.account.leased == 0


# -- how it ends ------------------------------------------------------------------


def test_a_short_stream_is_incomplete_and_says_what_came() -> None:
    with streaming(b"123", b"45") as (stream, _):
        with pytest.raises(errors.IncompleteRead) as caught:
            stream.readexactly(6)
        assert (caught.value.partial, caught.value.expected) == (b"12345", 6)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.partial, str(again)) == (b"12345", str(caught.value))
        assert isinstance(caught.value, EOFError)
        assert stream.at_end
    with streaming(b"123") as (stream, _):
        with pytest.raises(errors.IncompleteRead) as caught:
            stream.readuntil(b"4")
        assert (caught.value.partial, caught.value.expected) == (b"123", None)


READS: dict[str, Callable[[Stream], object]] = {
    "read": lambda stream: stream.read(),
    "read n": lambda stream: stream.read(10),
    "readall": lambda stream: stream.readall(),
    "readexactly": lambda stream: stream.readexactly(10),
    "readuntil": lambda stream: stream.readuntil(b";"),
    "readline": lambda stream: stream.readline(),
    "readinto": lambda stream: stream.readinto(bytearray(5)) == 5 and stream.readinto(bytearray(5)),
    "read1": lambda stream: stream.read1() == b"12345" and stream.read1(),
    "for": lambda stream: list(stream),
    "pickle": lambda stream: pickle.load(stream),
    "copyfileobj": lambda stream: shutil.copyfileobj(stream, io.BytesIO()),
    "BufferedReader": lambda stream: io.BufferedReader(stream).read(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EFAULT])
def test_a_cut_stream_raises_its_error_and_never_looks_complete(
    read: Callable[[Stream], object], number: int
) -> None:
    data = b"\x80\x04\x95\x07\x00" if read is READS["pickle"] else b"12345"
    with streaming(data, finish=False) as (stream, sock):
        sock.error = number
        with pytest.raises(errors.ReceiveError) as caught:
            read(stream)
        assert caught.value.errno == number
        if not stream.closed:  # as a forgotten BufferedReader does with its file
            stream.read1(stream._chunks.nbytes)
            with pytest.raises(errors.ReceiveError):
                stream.read1()


def test_urgent_data_that_was_lost_is_no_end() -> None:
    with streaming(b"123") as (stream, sock):
        sock.unread_after_end = 1
        with pytest.raises(errors.UrgentDataLost):
            stream.read()
        assert stream.read1() == b"123"


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_timeout_loses_no_byte(read: Callable[[Stream], object]) -> None:
    if read in (READS["readinto"], READS["read1"], READS["for"], READS["copyfileobj"]):
        pytest.skip("expected: it hands on what came, and waits for more")
    if read in (READS["BufferedReader"], READS["pickle"]):
        pytest.skip("expected: the reader on top has what came")
    with streaming(b"12345", finish=False) as (stream, sock):
        with pytest.raises(TimeoutError):
            read(stream)
        sock.send(b"67890")
        assert stream.read(10) == b"1234567890"
        with pytest.raises(TimeoutError):
            stream.read1()


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), True])
def test_what_is_no_timeout(timeout: Any) -> None:
    with streaming() as (stream, _), pytest.raises(errors.BadArgument, match="timeout"):
        stream.timeout = timeout


@pytest.mark.parametrize("call", ["read", "readexactly", "read1", "readline"])
@pytest.mark.parametrize("n", [-2, 1.5, "1", True])
def test_what_is_no_number_of_bytes(call: str, n: Any) -> None:
    with streaming(b"x") as (stream, _):
        with pytest.raises(errors.BadArgument):
            getattr(stream, call)(n)
        assert stream.read(1) == b"x"


@pytest.mark.parametrize("memory", [b"1234", "1", None, memoryview(b"12")])
def test_what_is_no_memory_to_read_into(memory: Any) -> None:
    with streaming(b"x") as (stream, _):
        with pytest.raises(errors.BadArgument, match="no memory"):
            stream.readinto(memory)
        assert stream.read(1) == b"x"


def test_closed_it_says_so_and_the_socket_is_open() -> None:
    with streaming(b"x" * 9, finish=False) as (stream, sock):
        assert stream.read(1) == b"x"
        stream.close()
        stream.close()
        assert sock.fileno() >= 0
        for read in READS.values():
            with pytest.raises(ValueError, match="closed"):
                read(stream)


def test_after_its_ring_closed() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = kernel.socket()
        sock.send(b"12")
        stream = ifq.stream(sock.fileno(), timeout=0)
        assert stream.read(1) == b"1"
        ring.close()
        with pytest.raises(pyzcrx.ClosedError, match="ring"):
            stream.read(1)
        stream.close()
        assert ifq._core.account.leased == 0


def test_forgotten_it_warns_and_gives_everything_back() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        sock = kernel.socket()
        sock.send(b"12")
        stream = ifq.stream(sock.fileno(), timeout=0)
        assert stream.read(1) == b"1"
        with pytest.warns(ResourceWarning, match="Stream"):
            del stream
        sock.send(b"34")
        assert list(ring.events()) == [], "its request ends with the next turns"
        assert ring.in_flight == 0
        settled(kernel, ring, ifq)


# -- as a file ----------------------------------------------------------------------

THING = {"a": [1, 2, 3], "b": "x" * 20_000}


def pieces(data: bytes, size: int = 1500) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def tar_of(data: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def untar(stream: Stream) -> bytes:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            found = tar.extractfile(member)
            assert found is not None
            return found.read()
    return b""


def copied(stream: Stream) -> bytes:
    whole = io.BytesIO()
    shutil.copyfileobj(stream, whole)
    return whole.getvalue()


BYTES = bytes(range(256)) * 100
FILES: dict[str, tuple[bytes, Callable[[Stream], object], object]] = {
    "pickle": (pickle.dumps(THING), pickle.load, THING),
    "pickle of bytes": (pickle.dumps(BYTES, 5), lambda s: pickle.load(io.BufferedReader(s)), BYTES),
    "pickle of a bytearray": (
        pickle.dumps(bytearray(BYTES), 5),
        lambda s: pickle.load(io.BufferedReader(s)),
        bytearray(BYTES),
    ),
    "json": (json.dumps(THING).encode(), json.load, THING),
    "tarfile": (tar_of(BYTES), untar, BYTES),
    "gzip": (gzip.compress(BYTES), lambda s: gzip.GzipFile(fileobj=s).read(), BYTES),
    "copyfileobj": (BYTES, copied, BYTES),
    "BufferedReader": (BYTES, lambda s: io.BufferedReader(s).read(), BYTES),
    "lines": (b"a\nb\n", lambda s: list(io.TextIOWrapper(io.BufferedReader(s))), ["a\n", "b\n"]),
}


@pytest.mark.parametrize("name", FILES)
def test_what_reads_files_reads_streams(name: str) -> None:
    data, read, expected = FILES[name]
    with streaming(*pieces(data)) as (stream, _):
        assert read(stream) == expected


def test_several_pickles_in_a_row() -> None:
    with streaming(*pieces(b"".join(pickle.dumps(n) for n in range(20)), 7)) as (stream, _):
        assert [pickle.load(stream) for _ in range(20)] == list(range(20))


# -- room ---------------------------------------------------------------------------


def test_it_holds_no_more_than_its_room() -> None:
    segments = [bytes([n]) * PAGE for n in range(64)]
    with streaming(*segments, room_bytes=8 * PAGE) as (stream, sock):
        account = cast(pyzcrx.Ifq, stream._request.ifq)._core.account
        most = 0
        for n in range(64):
            assert stream.readexactly(PAGE) == segments[n]
            most = max(most, account.leased)
            assert len(sock.segments) >= 64 - n - 9
        assert 0 < most <= 8
        assert stream.statistics["spilled_bytes"] == 0


@pytest.mark.parametrize("size", [1, 100])
def test_tiny_segments_do_not_fill_the_area(size: int) -> None:
    with streaming(*[b"x" * size] * 2000, room_bytes=16 * PAGE) as (stream, _):
        account = cast(pyzcrx.Ifq, stream._request.ifq)._core.account
        while data := stream.read1(size):
            assert len(data) <= size
            assert account.leased <= 16 + 20  # and one turn's


def test_a_call_may_want_more_than_the_room() -> None:
    data = b"x" * (40 * PAGE)
    with streaming(*pieces(data, PAGE), pages=16, room_bytes=4 * PAGE) as (stream, _):
        assert stream.readexactly(len(data)) == data


@pytest.mark.parametrize("room_bytes", [0, -1, PAGE, "1", 1.5, True])
def test_what_is_no_room(room_bytes: Any) -> None:
    with receiving(ModelKernel()) as (_, ifq), pytest.raises(errors.BadArgument):
        ifq.stream(0, room_bytes=room_bytes)


def test_what_is_no_connection() -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (_, ifq), pytest.raises(errors.NotConnected):
        ifq.stream(kernel.listen().fileno())


# -- beside others ------------------------------------------------------------------


@pytest.mark.parametrize("batches", [False, True])
def test_streams_and_plain_requests_lose_nothing_of_each_other(batches: bool) -> None:
    kernel = ModelKernel(cq_entries=8)
    with receiving(kernel) as (ring, ifq):
        socks = [kernel.socket() for _ in range(3)]
        for n, sock in enumerate(socks):
            for i in range(30):
                sock.send(bytes([n, i]) * 50)
            sock.finish()
        expected = [b"".join(bytes([n, i]) * 50 for i in range(30)) for n in range(3)]
        plain = ifq.receive(socks[2].fileno())
        received = bytearray()
        with ifq.stream(socks[0].fileno()) as one, ifq.stream(socks[1].fileno()) as two:
            assert one.read(100) + two.read(100) == expected[0][:100] + expected[1][:100]
            events: list[Any] = []
            if batches:
                while not plain.over:
                    batch = ring.wait(0)
                    assert len(batch) == 0, "a batch has nothing of a stream"
                    events += batch.events
            events += ring.events(0)
            for event in events:
                assert event.request is plain
                if isinstance(event, pyzcrx.Data):
                    received += event.buffer
                    event.buffer.release()
            assert isinstance(events[-1], pyzcrx.End)
            assert received == expected[2]
            assert two.read() == expected[1][100:]
            assert one.read() == expected[0][100:]
        settled(kernel, ring, ifq)


@pytest.mark.parametrize("batches", [False, True])
def test_a_loop_ends_with_its_own_requests_though_a_stream_is_open(batches: bool) -> None:
    kernel = ModelKernel()
    with receiving(kernel) as (ring, ifq):
        silent, sock = kernel.socket(), kernel.socket()
        with ifq.stream(silent.fileno(), timeout=0) as stream:
            with pytest.raises(TimeoutError):
                stream.read(1)  # armed now
            ifq.receive(sock.fileno())
            sock.send(b"x")
            sock.finish()
            loop = ring.batches() if batches else ring.events()
            events = [event for each in loop for event in getattr(each, "events", [each])]
            assert [type(event).__name__ for event in events] == ["Data", "End"]
            events[0].buffer.release()
            silent.send(b"y")
            assert stream.read(1) == b"y"
        settled(kernel, ring, ifq)


def test_streams_that_nobody_reads_leave_half_of_the_area_free() -> None:
    kernel = ModelKernel(cq_entries=16)
    with receiving(kernel, pages=64) as (ring, ifq):
        data = [bytes([n]) * (16 * PAGE) for n in range(16)]
        streams = []
        for each in data:
            sock = kernel.socket()
            for piece in pieces(each, PAGE):
                sock.send(piece)
            sock.finish()
            streams.append(ifq.stream(sock.fileno()))
        assert [stream.read(1) for stream in streams] == [each[:1] for each in data]
        assert ifq._core.account.leased <= 32 + 16  # and one turn's
        assert [stream.read() for stream in streams] == [each[1:] for each in data]
        for stream in streams:
            stream.close()
        settled(kernel, ring, ifq)


@given(
    streams=st.lists(
        st.lists(st.binary(min_size=1, max_size=2 * PAGE), max_size=6), min_size=1, max_size=4
    ),
    cq_entries=st.sampled_from([1, 2, 64]),
    reads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3 * PAGE)), max_size=30),
)
def test_any_order_of_reads(
    streams: list[list[bytes]], cq_entries: int, reads: list[tuple[int, int]]
) -> None:
    kernel = ModelKernel(cq_entries=cq_entries)
    with receiving(kernel, pages=64) as (ring, ifq):
        files, left = [], [b"".join(stream) for stream in streams]
        for stream in streams:
            sock = kernel.socket()
            for segment in stream:
                sock.send(segment)
            sock.finish()
            files.append(ifq.stream(sock.fileno(), room_bytes=4 * PAGE))
        for which, n in (*reads, *((i, -1) for i in range(len(files)))):
            i = which % len(files)
            data = files[i].read(n)
            assert data == (left[i] if n < 0 else left[i][:n])
            left[i] = left[i][len(data) :]
        for file in files:
            file.close()
        settled(kernel, ring, ifq)


# -- interrupted ----------------------------------------------------------------------

SEGMENTS = [b"a" * 100, b";", b"c" * (PAGE + 5), b"d" * 30]


def into(stream: Stream) -> bytes:
    memory = bytearray(3000)
    return bytes(memory[: stream.readinto(memory)])


def looped(stream: Stream) -> bytes:
    """As a loop does: quiet turns do not go through Python."""
    left = sys.getprofile()
    chunk = next(iter(stream), None)
    sys.setprofile(None)
    return released(chunk, left)


def piece(stream: Stream) -> bytes:
    left = sys.getprofile()
    chunk = next(stream, None)
    sys.setprofile(None)
    return released(chunk, left)


def released(chunk: Chunk | None, left: Any) -> bytes:
    """Its bytes; then interruptions go on."""
    data = b"" if chunk is None else bytes(chunk)
    if chunk is not None:
        chunk.release()
    sys.setprofile(left)
    return data


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s.read(5000),
        lambda s: s.read1(),
        lambda s: s.readline(700),
        into,
        piece,
        looped,
    ],
    ids=["read", "read1", "readline", "readinto", "next", "for"],
)
@pytest.mark.parametrize("cq_entries", [64, 2])
def test_no_byte_is_lost_wherever_it_strikes(
    read: Callable[[Stream], bytes], cq_entries: int
) -> None:
    nth, struck = 0, True
    while struck:
        nth += 1
        kernel = ModelKernel(cq_entries=cq_entries)
        with receiving(kernel, pages=32) as (ring, ifq):
            streams = []
            for _ in range(2):
                sock = kernel.socket()
                for segment in SEGMENTS:
                    sock.send(segment)
                sock.finish()
                streams.append(ifq.stream(sock.fileno(), room_bytes=4 * PAGE))
            received = [bytearray(), bytearray()]
            interrupt = Interrupt(nth)
            ended = 0
            with interrupt:
                while ended < 2:
                    ended = 0
                    for i, stream in enumerate(streams):
                        try:
                            data = read(stream)
                        except Interrupted:
                            break
                        received[i] += data
                        ended += not data
            struck = interrupt.left <= 0
            assert received == [b"".join(SEGMENTS)] * 2, nth
            for stream in streams:
                stream.close()
            ifq.audit()
            assert all(stream._request.over for stream in streams), nth
            if ring._core.columns.counts[FRESH]:
                ring.wait(0).release()  # ends the interrupted turn, and enters the kernel for none
            settled(kernel, ring, ifq)
    assert nth > 100


def test_a_loop_over_chunks_ends_with_its_stream() -> None:
    with streaming(b"a" * PAGE, finish=False) as (stream, sock):
        stream.timeout = None
        chunks = iter(stream)
        next(chunks).release()
        sock.send(b"b" * (2 * PAGE))
        with next(chunks) as chunk:
            assert bytes(chunk) == b"b" * (2 * PAGE)
        stream.timeout = 0
        with pytest.raises(TimeoutError):
            next(chunks)
        sock.send(b"c")
        next(chunks).release()
        stream.close()
        for _ in range(2):
            with pytest.raises(pyzcrx.ClosedError, match="the stream was closed"):
                next(chunks)


def test_chunks_of_one_stream_leave_the_others_theirs() -> None:
    kernel = ModelKernel(cq_entries=64)
    with receiving(kernel, pages=64) as (ring, ifq):
        socks = [kernel.socket() for _ in range(3)]
        for i, sock in enumerate(socks):
            sock.send(b"%d" % i * PAGE)
            sock.send(b"%d" % i * 7)
            sock.finish()
        request = ifq.receive(socks[2].fileno())
        streams = [ifq.stream(sock.fileno()) for sock in socks[:2]]
        for i, stream in enumerate(streams):
            data = b""
            for chunk in stream:
                with chunk:
                    data += bytes(chunk)
            assert data == b"%d" % i * (PAGE + 7)
            stream.close()
        data = b""
        for event in ring.events():
            match event:
                case pyzcrx.Data(request=found, buffer=buffer):
                    assert found is request
                    data += buffer
                    buffer.release()
                case pyzcrx.End():
                    assert data == b"2" * (PAGE + 7)
        settled(kernel, ring, ifq)
        ifq.audit()


def test_a_ring_keeps_nothing_of_streams_that_were_closed() -> None:
    kernel = ModelKernel(cq_entries=64)
    with receiving(kernel, pages=64) as (ring, ifq):
        for _ in range(3):
            sock = kernel.socket()
            sock.finish()
            with ifq.stream(sock.fileno()) as stream:
                assert stream.read() == b""
        inboxes = ring._delivery.inboxes
        assert (len(inboxes.ever), bool(inboxes)) == (1, False)
        settled(kernel, ring, ifq)

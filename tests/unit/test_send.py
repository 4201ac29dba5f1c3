"""Sends without a copy: bytes stay until the peer has them, and go back exactly once."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.memory import PAGE
from pyzcrx._ring import ending
from pyzcrx._send import policy
from pyzcrx._send.send import Send
from pyzcrx._send.stats import Copied
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.unit.test_interruptions import Interrupt, Interrupted
from tests.unit.test_model import settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")

PAGES = 64


class Bench:
    """A ring with an area, and what its peers sent."""

    def __init__(self) -> None:
        self.kernel = ModelKernel()
        self.kernel.__enter__()
        self.ring = pyzcrx.Ring(cq_entries=256)
        self.area = pyzcrx.Area.anonymous(PAGES * PAGE)
        self.ifq = self.ring.register_ifq(self.area, rq_entries=PAGES)

    def buffers(self, data: bytes) -> list[pyzcrx.Buffer]:
        """*data* as it arrives, a page a buffer."""
        sock = self.kernel.socket()
        sock.send(data)
        self.ifq.receive(sock.fileno(), limit=len(data))
        return [e.buffer for e in self.ring.events(0) if isinstance(e, pyzcrx.Data)]

    def events(self) -> list[pyzcrx.Event]:
        """What some turns bring; a send may take several."""
        return [event for _ in range(25) for event in self.ring.events(0)]

    def silent(self) -> ModelSocket:
        """A peer that takes what is sent and does not acknowledge it."""
        sock = self.kernel.socket()
        sock.acknowledges = False
        return sock

    def overwrite(self) -> None:
        """Have the kernel write every buffer that it believes to be its own."""
        self.ring.wait(0).release()
        self.ifq.flush()
        sock = self.kernel.socket()
        free = len(self.kernel.free)
        sock.send(b"\xee" * (free * PAGE))
        self.ifq.receive(sock.fileno(), limit=free * PAGE)
        for event in self.ring.events(0):
            if isinstance(event, pyzcrx.Data):
                event.buffer.release()

    def close(self) -> None:
        self.ring.close()
        self.kernel.__exit__(None, None, None)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def pattern(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


def acknowledge(sock: ModelSocket) -> None:
    sock.acknowledges = True
    sock.acknowledge()


# -- when bytes are whose -------------------------------------------------------


def test_buffers_go_back_with_the_notification_and_not_before(bench: Bench) -> None:
    data = pattern(8 * PAGE)
    sock = bench.silent()
    send = bench.ring.send(sock.fileno(), bench.buffers(data), zero_copy=True)
    assert any(isinstance(e, pyzcrx.Sent) for e in bench.events())
    assert not send.done
    bench.overwrite()
    assert bench.ifq._core.account.leased == 8
    assert bench.ring.send_stats().unnotified_bytes == len(data)
    bench.ifq.audit()
    acknowledge(sock)
    assert bench.events() == []
    assert send.done
    assert bytes(sock.sent) == data
    settled(bench.kernel, bench.ring, bench.ifq)
    stats = bench.ring.send_stats()
    assert (stats.bytes_zero_copy, stats.bytes_copied, stats.unnotified_bytes) == (len(data), 0, 0)
    assert stats.unnotified_max_bytes == len(data)


def test_given_back_before_the_notification_they_would_corrupt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: a send that counts as copied lets go of its buffers too early."""
    data = pattern(8 * PAGE)
    sock = bench.silent()

    def hazard(send: Any, attempt: Any, res: int, more: bool) -> object:
        event = completed(send, attempt, res, more)
        send._let_go()
        return event

    completed = Send._completed
    monkeypatch.setattr(Send, "_completed", hazard)
    bench.ring.send(sock.fileno(), bench.buffers(data), zero_copy=True)
    bench.events()
    bench.overwrite()
    acknowledge(sock)
    assert b"\xee" * PAGE in bytes(sock.sent)


def test_a_buffer_sent_to_several_goes_back_with_the_last(bench: Bench) -> None:
    data = pattern(4 * PAGE)
    buffers = bench.buffers(data)
    socks = [bench.silent() for _ in range(3)]
    sends = [bench.ring.send(sock.fileno(), buffers, zero_copy=True) for sock in socks]
    bench.events()
    for sock, send in zip(socks, sends, strict=True):
        bench.overwrite()
        assert bench.ifq._core.account.leased == 4
        acknowledge(sock)
        bench.events()
        assert send.done
        assert bytes(sock.sent) == data
    settled(bench.kernel, bench.ring, bench.ifq)


@pytest.mark.parametrize("zero_copy", [None, False, True])
@pytest.mark.parametrize(
    "part",
    [
        lambda buffers: buffers[0],
        lambda buffers: buffers[0].view()[10:100],
        lambda buffers: bytes(buffers[0]),
        lambda buffers: [bytes(3), buffers[0], b"", buffers[1].view(), bytearray(5)],
    ],
    ids=["buffer", "view", "bytes", "mixed"],
)
def test_what_can_be_sent(
    bench: Bench, part: Callable[[Sequence[pyzcrx.Buffer]], Any], zero_copy: bool | None
) -> None:
    buffers = bench.buffers(pattern(2 * PAGE))
    data = part(buffers)
    expected = b"".join(map(bytes, data)) if isinstance(data, list) else bytes(data)
    sock = bench.kernel.socket()
    bench.ring.send(sock.fileno(), data, zero_copy=zero_copy)
    (sent,) = bench.events()
    assert isinstance(sent, pyzcrx.Sent)
    assert sent.size_bytes == len(expected)
    assert bytes(sock.sent) == expected
    del data, sent
    for buffer in buffers:
        buffer._let_go()
    settled(bench.kernel, bench.ring, bench.ifq)


@pytest.mark.parametrize("several", [False, True])
def test_a_chunk_goes_back_when_it_is_done(bench: Bench, several: bool) -> None:
    data = pattern(4 * PAGE)
    source, sock = bench.kernel.socket(), bench.silent()
    source.send(data)
    source.finish()
    with bench.ifq.stream(source.fileno()) as stream:
        chunk = next(iter(stream))
    send = bench.ring.send(sock.fileno(), [chunk, b"!"] if several else chunk, zero_copy=True)
    bench.events()
    assert bench.ifq._core.account.leased == 4
    acknowledge(sock)
    bench.events()
    assert send.done
    assert bytes(sock.sent) == data + b"!" * several
    with pytest.raises(pyzcrx.errors.DoubleRelease):
        chunk.release()
    with pytest.raises(pyzcrx.ClosedError):
        bench.ring.send(sock.fileno(), chunk)
    settled(bench.kernel, bench.ring, bench.ifq)


# -- by which way -------------------------------------------------------------------


def sent_as(bench: Bench, data: Any, sock: ModelSocket, zero_copy: bool | None) -> set[str]:
    """Which reasons to copy were counted; none where nothing was copied."""
    before = bench.ring.send_stats().copied
    bench.ring.send(sock.fileno(), data, zero_copy=zero_copy)
    bench.events()
    after = bench.ring.send_stats().copied
    return {why for why, n in after.items() if n > before.get(why, 0)}


def local(sock: ModelSocket) -> None:
    sock.local = True


def refusing(number: int) -> Callable[[ModelSocket], None]:
    def refuse(sock: ModelSocket) -> None:
        sock.zero_copy_error = number

    return refuse


def nothing(_sock: ModelSocket) -> None: ...


LONG, SHORT = policy.LEAST_BYTES, policy.LEAST_STRETCH_BYTES


@pytest.mark.parametrize(
    ("make", "prepare", "zero_copy", "why"),
    [
        (lambda _: bytes(LONG), nothing, None, None),
        (lambda _: bytes(LONG), nothing, False, Copied.ASKED),
        (lambda _: bytes(LONG - 1), nothing, None, Copied.SMALL),
        (lambda _: bytes(1), nothing, True, None),
        (lambda b: b.buffers(bytes(16 * PAGE))[::2], nothing, None, Copied.SCATTERED),
        (lambda b: b.buffers(bytes(16 * PAGE))[::2], nothing, True, None),
        (lambda _: bytearray(LONG), nothing, True, Copied.CHANGING),
        (lambda _: memoryview(bytearray(LONG)).toreadonly(), nothing, True, Copied.CHANGING),
        (lambda b: b.area.view[:LONG], nothing, True, Copied.CHANGING),
        (lambda _: bytes(LONG), local, True, Copied.LOCAL),
        (lambda _: bytes(PAGES * PAGE // 2 + 1), nothing, True, Copied.LIMIT),
        (lambda _: bytes(LONG), refusing(errno.ENOMEM), None, Copied.REFUSED),
        (lambda _: bytes(LONG), refusing(errno.EOPNOTSUPP), True, Copied.REFUSED),
    ],
)
def test_every_reason_to_copy(
    bench: Bench,
    make: Callable[[Bench], Any],
    prepare: Callable[[ModelSocket], None],
    zero_copy: bool | None,
    why: Copied | None,
) -> None:
    sock = bench.kernel.socket()
    prepare(sock)
    data = make(bench)
    size = sum(map(len, data)) if isinstance(data, list) else len(data)
    assert sent_as(bench, data, sock, zero_copy) == ({why.value} if why else set())
    assert len(sock.sent) == size
    stats = bench.ring.send_stats()
    assert stats.accepted_bytes == stats.bytes_zero_copy + stats.bytes_copied == size
    assert sum(stats.copied.values()) == stats.bytes_copied
    assert stats.sends == 1
    del data
    gc.collect()
    settled(bench.kernel, bench.ring, bench.ifq)


def test_neighbours_are_one_stretch(bench: Bench) -> None:
    buffers = bench.buffers(pattern(16 * PAGE))
    buffers.sort(key=lambda buffer: buffer.off)
    sock = bench.kernel.socket()
    assert sent_as(bench, buffers, sock, None) == set()
    assert len(sock.sent) == 16 * PAGE


def test_at_most_half_of_the_area_waits_for_silent_peers(bench: Bench) -> None:
    socks = []
    for _ in range(PAGES // 4):
        buffers = bench.buffers(pattern(4 * PAGE))
        if not buffers:
            break
        socks.append(bench.silent())
        bench.ring.send(socks[-1].fileno(), buffers, zero_copy=True)
        bench.events()
        assert bench.ring.send_stats().unnotified_bytes <= PAGES * PAGE // 2
    assert len(socks) == PAGES // 4  # so it never ran out
    stats = bench.ring.send_stats()
    assert stats.unnotified_bytes == stats.unnotified_max_bytes == PAGES * PAGE // 2
    assert stats.copied == {"limit": PAGES * PAGE // 2}
    for sock in socks:
        acknowledge(sock)
    bench.events()
    assert all(bytes(sock.sent) == pattern(4 * PAGE) for sock in socks)
    settled(bench.kernel, bench.ring, bench.ifq)


def test_few_requests_wait_for_a_notification(bench: Bench) -> None:
    sock = bench.silent()
    for _ in range(100):
        bench.ring.send(sock.fileno(), b"x", zero_copy=True)
    bench.events()
    stats = bench.ring.send_stats()
    assert stats.unnotified_bytes == bench.ifq._core.ring.columns.capacity // 4
    assert stats.copied == {"limit": 100 - stats.unnotified_bytes}
    acknowledge(sock)
    bench.events()
    assert len(sock.sent) == 100


# -- order ------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_copy", [True, False])
def test_sends_on_one_socket_go_one_after_the_other(bench: Bench, zero_copy: bool) -> None:
    sock = bench.kernel.socket()
    sock.room_bytes = 0
    pieces = [bytes([i]) * 100 for i in range(5)]
    sends = [
        bench.ring.send(sock.fileno(), piece, zero_copy=zero_copy ^ (i % 2 == 0), context=i)
        for i, piece in enumerate(pieces)
    ]
    assert bench.events() == []
    assert bench.ring.in_flight == 1
    while not all(send.done for send in sends):
        sock.room_bytes = 30
        bench.events()
    assert bytes(sock.sent) == b"".join(pieces)


def test_those_behind_one_that_fails_fail_for_themselves(bench: Bench) -> None:
    sock = bench.kernel.socket()
    sock.room_bytes = 10
    sends = [bench.ring.send(sock.fileno(), bytes(100), zero_copy=True) for _ in range(3)]
    bench.events()
    sock.error = errno.ECONNRESET
    failed = bench.events()
    assert [event.request for event in failed] == sends
    assert all(isinstance(event, pyzcrx.Failed) for event in failed)
    assert all(send.done for send in sends)


@pytest.mark.parametrize("zero_copy", [True, False])
def test_more_stretches_than_one_request_takes(bench: Bench, zero_copy: bool) -> None:
    pieces = [bytes([i % 256]) * (i % 7) for i in range(1024)]
    sock = bench.kernel.socket()
    bench.ring.send(sock.fileno(), pieces, zero_copy=zero_copy)
    (sent,) = bench.events()
    assert isinstance(sent, pyzcrx.Sent)
    assert bytes(sock.sent) == b"".join(pieces)


# -- ends -------------------------------------------------------------------------------------


def in_flight(bench: Bench) -> tuple[ModelSocket, Send]:
    sock = bench.silent()
    send = bench.ring.send(sock.fileno(), bench.buffers(pattern(4 * PAGE)), zero_copy=True)
    bench.events()
    assert not send.done
    return sock, send


def test_abort_brings_the_notification(bench: Bench) -> None:
    sock, send = in_flight(bench)
    send.abort()
    bench.events()
    assert send.done
    send.abort()
    assert bytes(sock.sent) == b""
    settled(bench.kernel, bench.ring, bench.ifq)


@pytest.mark.parametrize("queued", [0, 2])
def test_a_ring_that_closes_waits_for_notifications(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, queued: int
) -> None:
    sock, send = in_flight(bench)
    more = [bench.ring.send(sock.fileno(), b"never begun", zero_copy=True) for _ in range(queued)]
    resets = []
    turn = lib.pz_ring_turn

    def turn_and_acknowledge(*arguments: Any) -> int:
        sock.acknowledges = True
        return int(turn(*arguments))

    monkeypatch.setattr(lib, "pz_ring_turn", turn_and_acknowledge)
    monkeypatch.setattr(lib, "pz_disconnect", lambda *_: resets.append(1))
    bench.ring.close()
    assert resets == []
    assert send.done
    assert all(each.done for each in more)
    assert bytes(sock.sent)[: 4 * PAGE] == pattern(4 * PAGE)
    stats = bench.ring.send_stats()
    assert (stats.unnotified_bytes, stats.abandoned_bytes) == (0, 0)
    with pyzcrx.Ring() as again:
        again.register_ifq(bench.area)


def test_a_ring_that_closes_resets_a_silent_peer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, send = in_flight(bench)
    monkeypatch.setattr(ending, "_CLOSE_TIMEOUT_NS", 1_000_000)
    bench.ring.close()
    assert send.done
    assert bytes(sock.sent) == b""  # a reset, and no byte of what comes later
    assert bench.ifq._core.account.leased == 0
    with pyzcrx.Ring() as again:
        again.register_ifq(bench.area)


@pytest.mark.parametrize("how", ["closed", "interrupted", "dropped"])
def test_memory_whose_notification_never_comes_is_never_written_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sock, send = in_flight(bench)
    monkeypatch.setattr(ending, "_CLOSE_TIMEOUT_NS", 1_000_000)
    monkeypatch.setattr(lib, "pz_disconnect", lambda _fd: 0)
    area = bench.area
    if how == "closed":
        bench.ring.close()
    elif how == "interrupted":
        monkeypatch.setattr(
            bench.ifq._core.ring.ending, "_drop_all", Interrupt
        )  # TypeError: any will do
        with pytest.raises(TypeError):
            bench.ring.close()
    else:
        del send
        bench.ring = pyzcrx.Ring()
        del bench.ifq
        with pytest.warns(ResourceWarning):
            gc.collect()
    with (
        pyzcrx.Ring() as again,
        pytest.raises(pyzcrx.errors.AreaInUse, match="may still be read by the NIC"),
    ):
        again.register_ifq(area)
    area.close()
    del area, bench.area
    gc.collect()
    acknowledge(sock)
    assert bytes(sock.sent) == pattern(4 * PAGE)
    if how != "dropped":
        assert bench.ring.send_stats().abandoned_bytes == 4 * PAGE


@pytest.mark.parametrize(
    ("error", "room"),
    [(0, None), (0, 3 * PAGE), (errno.ENOMEM, None), (errno.ECONNRESET, 3 * PAGE)],
)
def test_interrupted_wherever_it_may_be(error: int, room: int | None) -> None:
    """A signal handler raises at each place in turn: all is sent once, accounts balance."""
    nth = 0
    struck = True
    while struck:
        nth += 1
        bench = Bench()
        data = pattern(4 * PAGE)
        sock = bench.silent()
        sock.zero_copy_error = error if error != errno.ECONNRESET else 0
        sock.room_bytes = room
        buffers = bench.buffers(data)
        sends = [
            bench.ring.send(sock.fileno(), buffers[:3], zero_copy=True),
            bench.ring.send(sock.fileno(), buffers[3:], zero_copy=True),
        ]
        del buffers
        interrupt = Interrupt(nth)
        events: list[pyzcrx.Event] = []

        def turns(bench: Bench = bench, events: list[pyzcrx.Event] = events) -> None:
            for _ in range(3):
                try:
                    for event in bench.ring.events(0):
                        events.append(event)
                except Interrupted:
                    continue

        with interrupt:
            turns()
            sock.room_bytes = None
            if error == errno.ECONNRESET:
                sock.error = error
            turns()
            acknowledge(sock)
            turns()
        struck = interrupt.left <= 0
        assert sys.getprofile() is None
        ends = [event.request for event in events]
        assert ends == sends, nth
        assert all(send.done for send in sends)
        if error != errno.ECONNRESET:
            assert bytes(sock.sent) == data
        stats = bench.ring.send_stats()
        assert stats.unnotified_bytes == 0
        assert stats.accepted_bytes == len(sock.sent)
        assert (stats.bytes_copied > 0) == (error in {errno.ENOMEM, errno.EOPNOTSUPP})
        settled(bench.kernel, bench.ring, bench.ifq)
        bench.close()
    assert nth > 50

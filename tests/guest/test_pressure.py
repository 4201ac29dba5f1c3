"""Consumers that hold what they get: what each policy makes of it, on real TCP."""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

import pyzcrx
from pyzcrx._pressure.holders import Holder
from tests.guest.card import CARD, Pair
from tests.guest.echo import send_all
from tests.guest.test_receive import connected, ifq_of, sending
from tests.leaks import nothing_leaks
from tests.long import LONG
from tests.patience import START_S

MIB = 1 << 20
AREA_BYTES = 64 * MIB
OTHERS = 4
OTHERS_BYTES = 256 * MIB if LONG else 8 * MIB


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


def test_grow_adds_areas_up_to_the_limit_and_not_beyond() -> None:
    data = os.urandom(24 * MIB)
    limit = 4 * 8 * MIB
    policy = pyzcrx.Pressure("grow", limit_bytes=limit)
    with connected() as (client, sock), sending(client, data):
        with ifq_of(8 * MIB, pressure=policy) as (ring, ifq):
            request = ifq.receive(sock)
            held: list[pyzcrx.Buffer] = []
            got = bytearray()
            while not request.over:
                for event in ring.events(timeout=1):
                    match event:
                        case pyzcrx.Data(buffer=buffer):
                            got += buffer
                            held.append(buffer)
                        case pyzcrx.Failed(error=error):
                            raise error
                assert sum(area.size_bytes for area in ifq.areas) <= limit
                ifq.audit()
                # All of it is held until the limit stops the stream.
                if ifq._core.waiting.paused or request.over:
                    for buffer in held:
                        buffer.release()
                    held.clear()
            assert len(ifq.areas) > 1
        assert got == data


def test_raise_names_who_holds() -> None:
    with connected() as (client, sock):
        client.setblocking(False)
        with ifq_of(8 * MIB, pressure="raise") as (ring, ifq):
            request = ifq.receive(sock)
            held: list[pyzcrx.Buffer] = []

            def hold_for_ever() -> None:
                while True:
                    with suppress(BlockingIOError):
                        client.send(bytes(1 << 16))
                    for event in ring.events(timeout=0.01):
                        assert isinstance(event, pyzcrx.Data), event
                        held.append(event.buffer)

            with pytest.raises(pyzcrx.errors.AreaHeld, match=f"fd {sock.fileno()}") as caught:
                hold_for_ever()
            holder = caught.value.holders[0]
            assert isinstance(holder, Holder)
            assert holder.request is request
            for buffer in held:
                buffer.release()
            ring.wait(0)
            ifq.audit()


class _Crowd:
    """Connections to one ifq: some that are held for ever, the others released at once."""

    def __init__(self, ring: pyzcrx.Ring, ifq: pyzcrx.Ifq) -> None:
        self.ring = ring
        self.ifq = ifq
        self.data = os.urandom(OTHERS_BYTES)
        self.held: list[pyzcrx.Buffer] = []
        self.buffers = self.copied = 0
        """Of the others."""

    @contextmanager
    def connection(self, *, hold: bool) -> Iterator[None]:
        # What sockets hold unread lies in the area: with these it is enough for all.
        with connected(rcvbuf_bytes=MIB) as (client, sock):
            self.ifq.receive(sock, context=hold)
            thread = threading.Thread(target=self._send, args=(client, hold))
            thread.start()
            yield
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # a close would not wake the sender
            thread.join(START_S)
            assert not thread.is_alive()

    def _send(self, client: socket.socket, hold: bool) -> None:
        try:
            while hold:
                client.sendall(self.data)
            send_all(client, self.data)
        except OSError:
            assert hold

    def serve(self, ends: int) -> float:
        """Until so many of the others have ended; gives the seconds."""
        began = time.monotonic()
        at: Counter[pyzcrx.Request] = Counter()
        while ends:
            for event in self.ring.events(timeout=1):
                match event:
                    case pyzcrx.Data(request=request, buffer=buffer):
                        if request.context:
                            self.held.append(buffer)
                            continue
                        if not LONG:
                            start = at[request]
                            at[request] += len(buffer)
                            assert self.data[start : at[request]] == buffer.view()
                        self.buffers += 1
                        self.copied += buffer.copied
                        buffer.release()
                    case pyzcrx.End(request=request):
                        assert request.received == OTHERS_BYTES
                        ends -= 1
                    case other:
                        pytest.fail(f"unexpected {other}")
                if not ends:
                    break
        return time.monotonic() - began


def dropped() -> int:
    """What was lost for want of area. A burst that finds the ring empty is TCP's to mend."""
    return CARD.without_area() if isinstance(CARD, Pair) else 0


def others_take(*, hog: bool) -> float:
    """Seconds that the others' streams take, beside one that holds everything or not."""
    with ifq_of(AREA_BYTES, pressure="copy") as (ring, ifq), ExitStack() as stack:
        crowd = _Crowd(ring, ifq)
        if hog:
            stack.enter_context(crowd.connection(hold=True))
            while not ifq._core.waiting.paused:  # it has taken all that it may
                for event in ring.events(timeout=0.01):
                    assert isinstance(event, pyzcrx.Data), event
                    crowd.held.append(event.buffer)
        before = dropped()
        for _ in range(OTHERS):
            stack.enter_context(crowd.connection(hold=False))
        seconds = crowd.serve(OTHERS)
        assert dropped() == before
        assert ifq._core.account.copies_bytes <= AREA_BYTES
        if CARD.zero_copy:
            assert 2 * crowd.copied <= crowd.buffers
        ifq.audit()
        ring.close()
        for buffer in crowd.held:
            buffer.release()
    return seconds


def test_one_that_holds_everything_does_not_stop_the_others(
    record_property: Callable[[str, object], None],
) -> None:
    rounds = [(others_take(hog=False), others_take(hog=True)) for _ in range(3 if LONG else 1)]
    alone, beside = map(statistics.median, zip(*rounds, strict=True))
    text = f"{alone / beside:.0%} of the rate, {OTHERS} x {OTHERS_BYTES >> 20} MiB, area 64 MiB"
    record_property("others", text)
    print(f"copy, one holds everything: the others keep {text} ({CARD.server})")
    if LONG:
        assert alone / beside >= 0.8

"""The ring under an event loop of others, in the form that a user writes first."""

from __future__ import annotations

import asyncio
import hashlib
import os
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

import pyzcrx
from tests.guest.card import register
from tests.guest.test_receive import connected, sending
from tests.leaks import nothing_leaks
from tests.patience import START_S

SIZE = 8 << 20
AREA = 4 << 20  # a card posts more than half of that


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


class Receiver:
    """A ring in asyncio: turns whenever its descriptor is readable."""

    def __init__(self, ring: pyzcrx.Ring) -> None:
        self._ring = ring
        self._queues: dict[object, asyncio.Queue[pyzcrx.Event]] = {}
        asyncio.get_running_loop().add_reader(ring.fileno(), self._turn)

    def _turn(self) -> None:
        for event in self._ring.events(timeout=0):
            self._queues[event.request].put_nowait(event)

    async def stream(self, ifq: pyzcrx.Ifq, sock: socket.socket) -> AsyncIterator[pyzcrx.Buffer]:
        request = ifq.receive(sock)
        queue = self._queues[request] = asyncio.Queue()
        while True:
            match await queue.get():
                case pyzcrx.Data(buffer=buffer):
                    yield buffer
                case pyzcrx.End():
                    return
                case pyzcrx.Failed(error=error):
                    raise error


@pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")
@pytest.mark.parametrize("late", ["at once", "later", "by a thread"])
def test_asyncio_receives_all_of_it(late: str) -> None:
    data = os.urandom(SIZE)
    digest = hashlib.sha256()

    async def main(ring: pyzcrx.Ring, ifq: pyzcrx.Ifq, sock: socket.socket) -> None:
        receiver = Receiver(ring)
        held = []
        async for buffer in receiver.stream(ifq, sock):
            digest.update(buffer)
            held.append(buffer)
            if late == "at once" or len(held) * 4 * buffer_bytes >= AREA:
                await give_back(held)
        await give_back(held)
        asyncio.get_running_loop().remove_reader(ring.fileno())

    async def give_back(held: list[pyzcrx.Buffer]) -> None:
        def release() -> None:
            while held:
                held.pop().release()

        if late == "by a thread":
            await asyncio.to_thread(release)
        elif late == "later":
            for _ in range(20):
                await asyncio.sleep(0.001)  # turns come and find nothing given back
        release()

    with (
        connected() as (client, sock),
        sending(client, data),
        pyzcrx.Ring(gather_us=0) as ring,
        pyzcrx.Area.anonymous(AREA) as area,
    ):
        ifq = register(ring, area)
        buffer_bytes = ifq.rx_buf_len
        asyncio.run(asyncio.wait_for(main(ring, ifq, sock), START_S))
    assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")
def test_a_release_after_everything_stopped_goes_on() -> None:
    """All of the area is out, nothing arrives, and then another thread gives it back."""
    data = os.urandom(SIZE)
    received = 0
    with (
        connected() as (client, sock),
        sending(client, data),
        pyzcrx.Ring(gather_us=0) as ring,
        pyzcrx.Area.anonymous(AREA) as area,
        selectors.DefaultSelector() as selector,
    ):
        ifq = register(ring, area)
        selector.register(ring.fileno(), selectors.EVENT_READ)
        ifq.receive(sock)
        held: list[pyzcrx.Buffer] = []
        ended = False
        while not ended:
            if not selector.select(0.2 if held else START_S):
                assert held, "nothing is held and nothing happens"
                releasing = threading.Thread(target=release_all, args=(held,))
                releasing.start()
                assert selector.select(START_S)
                releasing.join()
                held = []
            for event in ring.events(timeout=0):
                match event:
                    case pyzcrx.Data(buffer=buffer):
                        received += len(buffer)
                        held.append(buffer)
                    case pyzcrx.End():
                        ended = True
                    case pyzcrx.Failed(error=error):
                        raise error
            if ended or len(held) * ifq.rx_buf_len * 4 > 3 * AREA:
                release_all(held)
                held = []
    assert received == SIZE


def release_all(held: list[pyzcrx.Buffer]) -> None:
    for buffer in held:
        buffer.release()

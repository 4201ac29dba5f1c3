"""A stream through a queue that pyzcrx.nic has set up, with something happening on its way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pyzcrx
from pyzcrx import nic
from tests.guest.card import PATIENCE_S, Gve, connect
from tests.patience import START_S
from tests.sim.removal import abort

MIB = 1 << 20
AREA_BYTES = 8 * MIB
PORT = 9999
WINDOW_BYTES = 256 << 10


def flow(gve: Gve) -> str:
    """To the server of :func:`transfer`."""
    return f"tcp4 dst {gve.server}:{PORT}"


@contextmanager
def bound(gve: Gve) -> Iterator[tuple[nic.Setup, pyzcrx.Ring, pyzcrx.Ifq]]:
    """A queue of the NIC, set up and put back by pyzcrx.nic."""
    with (
        nic.prepare(gve.interface, flow(gve)) as setup,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(AREA_BYTES) as area,
    ):
        yield setup, ring, registered(setup, ring, area)


def registered(setup: nic.Setup, ring: pyzcrx.Ring, area: pyzcrx.Area) -> pyzcrx.Ifq:
    """An ifq on the queue; one that was just given back comes a moment later."""
    queue = setup.queue
    return ring.register_ifq(area, interface=setup.ifindex, rx_queue=queue, timeout=PATIENCE_S)


def transfer(
    gve: Gve, ring: pyzcrx.Ring, ifq: pyzcrx.Ifq, data: bytes, disturb: Callable[[], None]
) -> bytes | BaseException:
    """What came of *data*, sent by the peer: all of it, or the error that ended it. *disturb* is
    called at every quarter, while the next one is under way. Nothing behind that is sent before:
    one turn may bring whatever was.
    """
    with socket.create_server((gve.server, PORT)) as listener:
        # So that not all that was sent is with us when something happens.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        client = connect(PORT)
        sock, _ = listener.accept()

    marks = [len(data) * quarter // 4 for quarter in (1, 2, 3)]
    allowed = threading.Semaphore(2)

    def send() -> None:
        with suppress(OSError):  # of a stream that is to fail
            for begin, end in pairwise([0, *marks, len(data)]):
                allowed.acquire()
                client.sendall(data[begin:end])
            client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    got = bytearray()
    with sock:
        try:
            ifq.receive(sock)
            sender.start()
            for event in ring.events(timeout=START_S):
                match event:
                    case pyzcrx.Data(buffer=buffer):
                        got += buffer
                        buffer.release()
                    case pyzcrx.Failed(error=error):
                        return error
                    case pyzcrx.End():
                        return bytes(got)
                while marks and len(got) >= marks[0]:
                    del marks[0]
                    disturb()
                    allowed.release()
            raise AssertionError(f"nothing comes after {len(got)} bytes\n{gve.stuck()}")
        finally:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # what still sends ends
            allowed.release(len(marks) + 1)
            sender.join(START_S)
            abort(client)


def once(action: Callable[[], None]) -> Callable[[], None]:
    """The action the first time, then nothing."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act

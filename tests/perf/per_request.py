"""What the begin and the end of a request cost: instructions of user space, by callgrind.

``python -P tests/perf/per_request.py`` prints them as JSON: of ``ifq.receive()``; of an End by
``ring.batches()`` and by ``ring.events()``, in a turn of its own with the one buffer that came
before it, as most ends of many connections are; and of a socket object of Python's that is made and
closed, as a unit. The ring is one that no kernel knows
(:mod:`tests.perf.replay`), the socket a real one.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

# At the end of the path: pyzcrx itself comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import pyzcrx
from tests.perf import callgrind
from tests.perf.replay import Replay

REQUESTS = 100
_WARM = 3


def _connected() -> socket.socket:
    """One end of a TCP connection, on which nothing comes."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        return listener.accept()[0]


def _begin(replay: Replay, sock: socket.socket) -> None:
    for _ in range(REQUESTS):
        replay.ifq.receive(sock)


def _end_of_batches(replay: Replay) -> int:
    left = REQUESTS
    for batch in replay.ring.batches():
        for event in batch.events:
            if isinstance(event, pyzcrx.End):
                left -= 1
        batch.release()
        if not left:
            return left
    return left


def _end_of_events(replay: Replay) -> int:
    left = REQUESTS
    for event in replay.ring.events():
        if isinstance(event, pyzcrx.Data):
            event.buffer.release()
        elif isinstance(event, pyzcrx.End):
            left -= 1
            if not left:
                return left
    return left


_ENDS = {"end": _end_of_batches, "end by events": _end_of_events}
NAMES = ("begin", *_ENDS, "socket")


def _begun(replay: Replay) -> list[pyzcrx.Request]:
    requests = [
        request
        for request in replay.ring._core.operations()
        if isinstance(request, pyzcrx.Request) and request is not replay.request
    ]
    assert len(requests) == REQUESTS
    return requests


def _sockets(sock: socket.socket) -> None:
    for _ in range(REQUESTS):
        socket.socket(fileno=os.dup(sock.fileno())).close()


def measure(mark: Callable[[], object]) -> None:
    """Each once between two marks, after it ran some times."""
    with Replay(per_turn=2, turns=2 * REQUESTS) as replay, _connected() as sock:
        for i in range(_WARM + 1):
            if i == _WARM:
                gc.collect()
                gc.freeze()
            between = begins = mark if i == _WARM else int
            for end in _ENDS.values():
                begins()
                _begin(replay, sock)
                begins()
                begins = int  # it was seen
                replay.bring(_begun(replay))
                between()
                left = end(replay)
                between()
                assert not left
            between()
            _sockets(sock)
            between()


def instructions() -> dict[str, float]:
    """By name."""
    _, parts = callgrind.counted(__file__, "--marked")
    return {
        name: sum(found.values()) / REQUESTS for name, found in zip(NAMES, parts[1::2], strict=True)
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--marked"]:
        measure(callgrind.mark)
    else:
        print(json.dumps(instructions()))

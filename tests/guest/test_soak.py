"""Mixed load for a while: nothing grows beyond what it was after the first part of it."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.guest.echo import Echo, crowd
from tests.leaks import Holdings, resident_kb, settled
from tests.long import LONG
from tests.patience import START_S

WARM_S = 60 if LONG else 5
WARM_ROUNDS = 5
SOAK_S = 30 * 60 if LONG else 10
RESIDENT_SLACK_KB = 2048
"""The allocator's; the load is random, so is what it needs at a time."""


def reset(echo: Echo, rng: random.Random) -> None:
    with echo.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.send(bytes(rng.randrange(1, 200_000)))


def deaf(echo: Echo, rng: random.Random) -> None:
    """Sends for a while and never reads."""
    with echo.connect() as sock:
        sock.settimeout(0.2)
        with suppress(TimeoutError):
            for _ in range(rng.randrange(1, 50)):
                sock.sendall(bytes(65536))


def idle(echo: Echo, rng: random.Random) -> None:
    with echo.connect() as sock:
        time.sleep(rng.random())
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


def mixed(echo: Echo, seed: int) -> None:
    """One round: checked streams, and beside them those that behave badly."""
    rng = random.Random(seed)
    kinds: list[Callable[[Echo, random.Random], None]] = [reset, deaf, idle]
    others = [
        threading.Thread(target=rng.choice(kinds), args=(echo, random.Random(seed + i)))
        for i in range(6)
    ]
    for thread in others:
        thread.start()
    crowd(echo.port, rng.randrange(1, 8), 256 << 10, seed)
    for thread in others:
        thread.join(START_S)
        assert not thread.is_alive()


def test_mixed_load_grows_nothing() -> None:
    with Echo("--pressure-limit", "8M") as echo:
        pid = echo.process.pid
        idle_fds = len(Holdings.now(pid).fds)
        warm, began, resident = 0, time.monotonic(), 0
        while time.monotonic() < began + WARM_S or warm < WARM_ROUNDS:
            mixed(echo, warm)
            warm += 1
            resident = max(resident, resident_kb(pid))
        before = settled(pid, idle_fds)
        rounds, most, began = 0, 0, time.monotonic()
        while time.monotonic() < began + SOAK_S or not rounds:
            mixed(echo, rounds % warm)  # the same load again, so that only growth can differ
            rounds += 1
            most = max(most, resident_kb(pid))
        after = settled(pid, idle_fds)
        print(
            f"{rounds} rounds: fds {len(before.fds)}, {len(after.fds)}; mappings "
            f"{before.mappings}, {after.mappings}; pinned {before.pinned_kb}, "
            f"{after.pinned_kb} kB; resident at most {resident}, {most} kB"
        )
        assert len(after.fds) == len(before.fds) == idle_fds
        assert after.mappings <= before.mappings + 2
        assert after.pinned_kb == before.pinned_kb
        assert most <= resident + RESIDENT_SLACK_KB

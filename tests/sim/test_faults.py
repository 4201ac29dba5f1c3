"""Whatever the card does to packets, the stream is the sender's, bit for bit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.guest.card import Sim, run
from tests.guest.echo import Echo, exchange
from tests.long import rounds

MIB = 1 << 20


def echoed(size_bytes: int, connections: int = 1) -> dict[str, int]:
    """Streams at once through zcrx-echo under the faults that are set; gives its figures."""
    with Echo() as echo:

        def one(data: bytes) -> bool:
            with echo.connect() as sock:
                return exchange(sock, data) == data

        with ThreadPoolExecutor(connections) as pool:
            assert all(pool.map(one, [os.urandom(size_bytes) for _ in range(connections)]))
        stats = echo.stop()
    assert stats["bytes"] == size_bytes * connections
    return stats


@pytest.mark.parametrize(
    ("fault", "knobs"),
    [
        ("drop", {"drop": 20_000}),
        ("duplicate", {"duplicate": 50_000}),
        ("reorder", {"reorder": 50_000}),
        ("delay", {"delay": 50_000, "delay_us": 3000}),
        ("corrupt", {"corrupt": 20_000}),
        ("linear", {"linear": 200_000}),
        ("part_split", {"part_split": 200_000}),
        ("post_fail", {"post_fail": 200_000}),
        ("skb_fail", {"skb_fail": 20_000}),
    ],
)
def test_one_fault(sim: Sim, fault: str, knobs: dict[str, int]) -> None:
    sim.fault(**knobs)
    stats = echoed(2 * MIB)
    assert sim.fault_counts()[fault] > 0
    if fault in ("linear", "part_split"):
        assert sim.counter(f"rx{sim.queue}_linear_bytes") > 0
    assert stats["held_buffers"] == 0


def test_payload_beside_headers_among_payload_that_nobody_can_read(sim: Sim) -> None:
    # Frames one by one, so that software GRO merges them; little room, so that TCP collapses.
    sim.fault(linear=300_000, part_split=100_000, reorder=20_000)
    with Echo("--rcvbuf", "32K") as echo, echo.connect() as sock:
        data = os.urandom(4 * MIB)
        assert exchange(sock, data) == data


@pytest.fixture
def mtu(sim: Sim, seed: int) -> Iterator[int]:
    """Of both ends: another one with each seed."""
    mtus = (9000, 65535, 1500, 9000)
    ends = (("ip",), ("ip", "-n", sim.netns))
    for prefix, device in zip(ends, (sim.interface, sim.peer), strict=True):
        run(*prefix, "link", "set", device, "mtu", str(mtus[seed % 4]))
    yield mtus[seed % 4]
    for prefix, device in zip(ends, (sim.interface, sim.peer), strict=True):
        run(*prefix, "link", "set", device, "mtu", "1500")


@pytest.mark.usefixtures("mtu")
@pytest.mark.parametrize("seed", range(rounds(4, 100)))
def test_a_seeded_mixture(sim: Sim, seed: int) -> None:
    sim.fault(
        seed=seed,
        drop=5000,
        duplicate=5000,
        reorder=5000,
        delay=5000,
        delay_us=1000,
        corrupt=5000,
        linear=50_000,
        part_split=50_000,
        post_fail=50_000,
        skb_fail=5000,
    )
    echoed(rounds(1, 13) * MIB, connections=8)  # --long: 100 x 8 x 13 MiB are 10.2 GiB
    assert sum(sim.fault_counts().values()) > 0


def test_a_starved_ring_recovers(sim: Sim) -> None:
    with Echo() as echo, echo.connect() as sock:
        assert sock.send(b"x") == 1
        assert sock.recv(1) == b"x"
        sim.fault(starve=1)
        ending = threading.Timer(1.0, lambda: sim.fault(starve=0))
        ending.start()
        data = os.urandom(8 * MIB)
        assert exchange(sock, data) == data
        ending.join()


def test_few_posted_buffers_cost_speed_only(sim: Sim) -> None:
    sim.fault(post_limit=8)
    echoed(MIB)


def test_a_link_flap_in_mid_stream(sim: Sim) -> None:
    with Echo() as echo, echo.connect() as sock:
        data = os.urandom(8 * MIB)

        def flap() -> None:
            time.sleep(0.05)
            run("ip", "link", "set", sim.interface, "down")
            run("ip", "link", "set", sim.interface, "up")

        thread = threading.Thread(target=flap)
        thread.start()
        assert exchange(sock, data) == data
        thread.join()

"""What of a connection may wait, as a share of the area."""

from __future__ import annotations

import pytest

from pyzcrx._common.stalled import RELIEF_BYTES
from pyzcrx._kernel.memory import PAGE
from pyzcrx.forwarding.backlog import LEAST_BYTES, MOST_BYTES, Backlog

MIB = 1 << 20


@pytest.mark.parametrize(
    ("area_bytes", "connections", "share_bytes"),
    [
        (64 * MIB, 1, MOST_BYTES),
        (64 * MIB, 16, MOST_BYTES),
        (64 * MIB, 32, 512 << 10),
        (64 * MIB, 64, LEAST_BYTES),
        (64 * MIB, 10_000, LEAST_BYTES),
        (8 * MIB, 1, 512 << 10),
        (8 * MIB, 4, 512 << 10),
        (8 * MIB, 5, 8 * MIB // 4 // 5),
        (2 * MIB, 1, LEAST_BYTES),
        (512 << 10, 1, 128 << 10),
        (2 * PAGE, 1, PAGE),
        (1 << 40, 1, MOST_BYTES),
    ],
)
def test_it_is_a_share_of_the_area_within_bounds(
    area_bytes: int, connections: int, share_bytes: int
) -> None:
    assert Backlog(area_bytes, None).share_bytes(connections) == share_bytes


def test_a_connection_of_two_directions_has_its_share_for_both() -> None:
    assert Backlog(64 * MIB, None, directions=2).share_bytes(16) == 512 << 10
    assert Backlog(8 * MIB, 8 * MIB, directions=2).share_bytes(1) == MIB


@pytest.mark.parametrize("connections", [1, 1000])
def test_what_is_given_stays_within_a_quarter_of_the_area(connections: int) -> None:
    assert Backlog(64 * MIB, 3 * MIB).share_bytes(connections) == 3 * MIB
    assert Backlog(8 * MIB, 3 * MIB).share_bytes(connections) == 2 * MIB
    assert Backlog(64 * MIB, 1).share_bytes(connections) == 1


@pytest.mark.parametrize("given_bytes", [None, 1, PAGE, 64 << 10, 4 * MIB])
@pytest.mark.parametrize("area_bytes", [2 * PAGE, 1 * MIB, 64 * MIB])
def test_relief_ends(area_bytes: int, given_bytes: int | None) -> None:
    backlog = Backlog(area_bytes, given_bytes)
    share_bytes = backlog.share_bytes(1)
    unsent_bytes = usual_bytes = share_bytes + share_bytes // 2
    for _ in range(100):
        more_bytes = backlog.relief_bytes(1, unsent_bytes)
        assert 0 <= more_bytes <= RELIEF_BYTES
        unsent_bytes += more_bytes
    assert backlog.relief_bytes(1, unsent_bytes) == 0
    quarter_bytes = max(PAGE, area_bytes // 4)
    assert usual_bytes < unsent_bytes <= usual_bytes + max(share_bytes, RELIEF_BYTES)
    assert unsent_bytes <= usual_bytes + quarter_bytes

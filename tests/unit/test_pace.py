"""How long turns gather."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._ring.pace import BUSY, BUSY_BYTES, ENOUGH, Pace

CQ_ENTRIES = 4096


def test_little_is_not_waited_for() -> None:
    pace = Pace(500, CQ_ENTRIES)
    assert pace.us == 0
    for _ in range(10):
        pace.brought(BUSY - 1, BUSY_BYTES - 1)
        assert pace.us == 0


def test_much_is_gathered_up_to_the_most() -> None:
    pace = Pace(500, CQ_ENTRIES)
    waits = []
    for _ in range(8):
        pace.brought(BUSY, 1)
        waits.append(pace.us)
    assert all(a < b or b == 500 for a, b in pairwise(waits))
    assert waits[-1] == 500
    pace.brought(2, 8192)
    assert pace.us == 0


def test_it_gathers_half_as_long_as_much_has_been_arriving() -> None:
    pace = Pace(1_000_000, CQ_ENTRIES)
    pace.brought(BUSY, 1)
    time.sleep(0.02)
    pace.brought(BUSY, 1)
    assert pace.us >= 10_000
    pace.brought(1, 1)
    pace.brought(BUSY, 1)
    assert 0 < pace.us < 10_000  # that was another time


def test_few_large_buffers_are_much_as_well() -> None:
    pace = Pace(500, CQ_ENTRIES)
    pace.brought(2, BUSY_BYTES)
    assert pace.us > 0


def test_too_much_halves_the_wait() -> None:
    pace = Pace(500, CQ_ENTRIES)
    for _ in range(8):
        pace.brought(BUSY, 1)
    pace.brought(2 * ENOUGH + 1, 1)
    assert pace.us == 250
    pace.brought(ENOUGH, 1)
    assert pace.us == 250


def test_a_small_area_is_not_run_dry() -> None:
    pace = Pace(500, CQ_ENTRIES)
    pace.fit(16 * 20)
    for _ in range(8):
        pace.brought(19, 1)
    assert pace.us == 500
    pace.brought(41, 1)
    assert pace.us == 250


def test_never_where_it_is_off() -> None:
    pace = Pace(0, CQ_ENTRIES)
    pace.brought(ENOUGH - 1, BUSY_BYTES)
    assert pace.us == 0


def test_no_more_than_half_of_the_completion_queue() -> None:
    assert Pace(500, CQ_ENTRIES).enough == ENOUGH
    assert Pace(500, 256).enough == 128
    assert Pace(500, 1).enough == 1


@given(
    st.integers(0, 1_000_000),
    st.integers(1, 65536),
    st.integers(1, 1 << 20),
    st.lists(st.integers(0, 4096)),
)
def test_within_its_bounds(most_us: int, cq_entries: int, buffers: int, turns: list[int]) -> None:
    pace = Pace(most_us, cq_entries)
    pace.fit(buffers)
    assert 1 <= pace.enough <= min(ENOUGH, max(1, cq_entries // 2), max(1, buffers // 16))
    for brought in turns:
        pace.brought(brought, 4096 * brought)
        assert 0 <= pace.us <= most_us


@pytest.mark.parametrize("frame", [1448, 4044, 8948])
def test_one_packet_of_gro_in_large_buffers_is_much(frame: int) -> None:
    """Whatever it is made of: with its headers it has less than 64 KiB."""
    pace = Pace(1000, 4096)
    pace.brought(2, (65_535 - 52) // frame * frame)
    assert pace.us > 0

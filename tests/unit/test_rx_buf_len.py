"""How large a buffer is when nobody said, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyzcrx
from pyzcrx._kernel import interface
from pyzcrx._pressure import rx_buf_len
from pyzcrx._pressure.policy import AreaAdvice, area_advice

MIB = 1 << 20


@pytest.fixture
def _merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that merges frames, with a ring of 1024."""
    monkeypatch.setattr(rx_buf_len, "merges_frames", lambda _: True)

    def advice(_: str, *, rx_buf_len: int, held_bytes: int) -> AreaAdvice:
        return area_advice(rx_ring_entries=1024, rx_buf_len=rx_buf_len, held_bytes=held_bytes)

    monkeypatch.setattr(rx_buf_len, "area_advice", advice)


@pytest.fixture
def area() -> Iterator[pyzcrx.Area]:
    with pyzcrx.Area.anonymous(512 * MIB) as area:
        yield area


@pytest.mark.usefixtures("_merging")
@pytest.mark.parametrize(
    ("size_bytes", "lengths"),
    [
        (512 * MIB, (32768, 16384, 8192, 0)),
        (256 * MIB, (16384, 8192, 0)),
        (128 * MIB, (8192, 0)),
        (64 * MIB, (0,)),
        (512 * MIB + 4096, (0,)),
        (4096, (0,)),
    ],
)
def test_as_large_as_the_area_has_room_for(size_bytes: int, lengths: tuple[int, ...]) -> None:
    with pyzcrx.Area.anonymous(size_bytes) as area:
        assert rx_buf_len.worth_trying("eth0", area) == lengths


@pytest.mark.usefixtures("_merging")
def test_single_pages_are_not_tried(area: pyzcrx.Area) -> None:
    assert rx_buf_len.worth_trying("eth0", area) != (0,)
    area.dmabuf = True
    assert rx_buf_len.worth_trying("eth0", area) == (0,)


def test_a_card_that_merges_nothing_gets_pages(area: pyzcrx.Area) -> None:
    assert rx_buf_len.worth_trying("lo", area) == (0,)
    assert rx_buf_len.worth_trying(None, area) == (0,)


def test_features_are_those_that_are_on() -> None:
    found = interface.features("lo")
    assert {"tx-scatter-gather", "loopback"} <= found
    assert "rx-gro-hw" not in found
    assert interface.features(1) == found
    assert not interface.merges_frames("lo")

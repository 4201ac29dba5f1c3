"""Registration on whatever kernel runs here: refused arguments, typed refusals, no traces."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import pyzcrx
from pyzcrx.probe import Presence
from tests.leaks import nothing_leaks


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rq_entries": 0}, "rq_entries 0"),
        ({"rq_entries": 32769}, "rq_entries 32769"),
        ({"rq_memory": "mine"}, "rq_memory"),
        ({"rx_buf_len": 2048}, "rx_buf_len 2048"),
        ({"rx_buf_len": 12288}, "power of two"),
        ({"interface": "lo"}, "both interface and rx_queue"),
        ({"rx_queue": 1}, "both interface and rx_queue"),
        ({"interface": "lo", "rx_queue": -1}, "rx_queue -1"),
        ({"interface": 0, "rx_queue": 0}, "interface index 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], text: str) -> None:
    with (
        nothing_leaks(),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(1 << 16) as area,
        pytest.raises(pyzcrx.errors.BadArgument, match=text),
    ):
        ring.register_ifq(area, **arguments)


def test_unknown_interface() -> None:
    with nothing_leaks(), pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 16) as area:
        with pytest.raises(pyzcrx.errors.NoSuchInterface, match="nosuch0") as caught:
            ring.register_ifq(area, interface="nosuch0", rx_queue=0)
        assert caught.value.errno == errno.ENODEV
        assert "ip link" in caught.value.hint


@pytest.mark.parametrize("queue", [0, 5000])
@pytest.mark.parametrize("rq_memory", ["user", "kernel"])
def test_an_interface_without_zcrx(queue: int, rq_memory: Any) -> None:
    if pyzcrx.probe().zcrx is not Presence.PRESENT:
        pytest.skip("this kernel has no zcrx to refuse an interface by")
    expected = (
        pyzcrx.errors.NotSupported if pyzcrx.probe().permitted else pyzcrx.errors.NotPermitted
    )
    with (
        nothing_leaks(),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(1 << 16) as area,
    ):
        for _ in range(5):
            with pytest.raises(expected, match=f"lo, queue {queue}"):
                ring.register_ifq(area, interface="lo", rx_queue=queue, rq_memory=rq_memory)
        assert area.token is None

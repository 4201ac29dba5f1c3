"""Reports of ``zcrx-bench`` as they might be, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from pyzcrx.bench.figures import Report
from pyzcrx.bench.plan import MIB

SETUP: dict[str, Any] = {
    "kernel": "7.3.4",
    "cpu": "a CPU of some length, as they have them today",
    "python": "3.13.5",
    "interface": "zcrx0",
    "mtu": 9000,
    "connections": 1,
    "size_bytes": 256 * MIB,
    "queues": 1,
    "sender": "sendfile",
    "read": False,
    "pinned": {"receiver": 1, "sender": 0, "napi": 0},
}


def run(seconds: float = 2.0, user_s: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "bytes": 256 * MIB,
        "chunks": 65536,
        "turns": 900,
        "seconds": seconds,
        "waits": 512,
        "user_s": user_s,
        "system_s": 0.5,
        "softirq_of_receiver_s": 0.01,
        "copied": 0.0,
        **more,
    }


def report(**setup: Any) -> Report:
    return Report(
        SETUP | setup,
        {"pyzcrx": "0.1.0"},
        ["uvloop: uvloop is not installed"],
        {
            "c": [run(1.0), run(2.0), run(4.0)],
            "columns": [run(2.0), run(4.0), run(8.0, 1.5)],
            "recv_into-64K": [run(2.0, copied=None)],
        },
        {"c": [1000, 2000, 3000]},
    )

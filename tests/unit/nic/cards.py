"""Cards as data, for tests of what decides over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyzcrx.nic.state import Channels, Irq, Napi, Queue, Rings, Rss, State

QUEUES = 4


def card(**changes: Any) -> State:
    """A card with four queues, fit for zcrx and untouched, but for *changes*."""
    return replace(
        State(
            interface="eth0",
            ifindex=2,
            netns=1,
            up=True,
            carrier=True,
            mtu=1500,
            addresses=("192.0.2.1", "2001:db8::1"),
            driver="zcrxsim",
            firmware="1.0",
            bus="0000:01:00.0",
            numa_node=0,
            xdp_program=None,
            xdp_features=0,
            channels=Channels(combined=QUEUES, combined_max=8, rx=0, rx_max=0),
            rings=Rings(
                rx=512,
                rx_max=4096,
                tx=512,
                tx_max=4096,
                rx_buf_len=None,
                tcp_data_split=False,
                hds_thresh=0,
                hds_thresh_max=1024,
            ),
            features={"rx-gro-hw": True, "rx-ntuple-filter": True},
            private_flags={},
            rss=(Rss(0, tuple(i % QUEUES for i in range(16)), "00", 1, 0, {"tcp4": 48}),),
            rules=(),
            rule_slots=16,
            queues=tuple(Queue(i, 100 + i, False, None, None, False, None) for i in range(QUEUES)),
            napis=tuple(Napi(100 + i, 30 + i, None, 0, 0, 0, 0) for i in range(QUEUES)),
            irqs=tuple(Irq(30 + i, f"eth0-{i}", "0-3", "0") for i in range(QUEUES)),
        ),
        **changes,
    )

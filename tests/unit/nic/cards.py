"""Cards as data, for tests of what decides over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyzcrx.nic.state import Channels, Irq, Napi, Queue, Rings, Rss, State

QUEUES = 4
CHANNELS = {
    "combined": Channels(combined=QUEUES, combined_max=8, rx=0, rx_max=0),
    "separate": Channels(combined=0, combined_max=0, rx=QUEUES, rx_max=8),
    "either, combined now": Channels(combined=QUEUES, combined_max=8, rx=0, rx_max=8),
    "either, separate now": Channels(combined=0, combined_max=8, rx=QUEUES, rx_max=8),
    "both": Channels(combined=2, combined_max=4, rx=2, rx_max=4),
    "no more": Channels(combined=QUEUES, combined_max=QUEUES, rx=0, rx_max=0),
    "separate, no more": Channels(combined=0, combined_max=0, rx=QUEUES, rx_max=QUEUES),
}
"""How drivers have their queues."""


def takes(channels: Channels, command: str) -> bool:
    """Whether a driver with these channels takes ``ethtool -L IF KIND N``."""
    kind, number = command.split()[-2:]
    most = {"combined": channels.combined_max, "rx": channels.rx_max}[kind]
    mixed = channels.combined and channels.rx
    other = channels.rx if kind == "combined" else channels.combined
    return 0 < int(number) <= most and (bool(mixed) or not other)


def gve(**changes: Any) -> State:
    """Google's vNIC as its driver shows it, untouched, but for *changes*."""
    plain = card()
    assert plain.rings is not None
    as_told: dict[str, Any] = {
        "driver": "gve",
        "channels": CHANNELS["separate"],
        "rings": replace(
            plain.rings, rx=1024, rx_buf_len=4096, hds_thresh=None, hds_thresh_max=None
        ),
        "features": {"rx-gro-hw": True, "rx-ntuple-filter": False, "rx-gro": True},
        "rss": tuple(replace(rss, fields={}) for rss in plain.rss),
    }
    return card(**as_told | changes)


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

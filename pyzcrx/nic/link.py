"""The net device itself: whether it is up, its addresses, XDP, where it sits.

By rtnetlink, and by sysfs what that does not tell.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pyzcrx.nic import tables
from pyzcrx.nic.netlink import NETLINK_ROUTE, Netlink

IFF_UP = 1
SYSFS = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Link:
    """What rtnetlink says of a device."""

    interface: str
    ifindex: int
    up: bool
    carrier: bool
    mtu: int
    xdp_program: int | None


def netns() -> int:
    """This thread's network namespace, by its inode."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def read(netlink: Netlink, ifindex: int) -> Link:
    """Raises NoSuchInterface."""
    query = tables.ifinfmsg()
    query["index"] = ifindex
    (found,) = netlink.request(tables.RTM_GETLINK, query, "read link", f"interface {ifindex}")
    xdp = found.get_attr("IFLA_XDP")
    attached = xdp and xdp.get_attr("IFLA_XDP_ATTACHED")
    return Link(
        interface=found.get_attr("IFLA_IFNAME"),
        ifindex=ifindex,
        up=bool(found["flags"] & IFF_UP),
        carrier=bool(found.get_attr("IFLA_CARRIER")),
        mtu=found.get_attr("IFLA_MTU"),
        xdp_program=(xdp.get_attr("IFLA_XDP_PROG_ID") or 0) if attached else None,
    )


def addresses(netlink: Netlink, ifindex: int) -> tuple[str, ...]:
    """Its IPv4 and IPv6 addresses."""
    query = tables.ifaddrmsg()
    query["index"] = ifindex
    found = netlink.request(
        tables.RTM_GETADDR, query, "read addresses", f"interface {ifindex}", dump=True
    )
    texts = {
        message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        for message in found
        if message["index"] == ifindex
    }
    return tuple(sorted(texts - {None}, key=lambda text: (":" in text, ip_address(text).packed)))


def open_rtnetlink() -> Netlink:
    return Netlink(NETLINK_ROUTE)


def numa_node(interface: str) -> int | None:
    """None: the device sits on none, or it cannot be told."""
    try:
        node = int((SYSFS / interface / "device/numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None

"""The netlink messages that the NIC needs: pyroute2's, and ours where it has none.

The only module that imports pyroute2, which takes longer than all of pyzcrx;
:mod:`pyzcrx.nic.tables` imports it once a message is wanted.

Kernel: ``Documentation/netlink/specs/ethtool.yaml``, ``netdev.yaml`` (7.3).
"""

from __future__ import annotations

from pyroute2.netlink import NLA_F_NESTED, ctrlmsg, genlmsg, nla
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

__all__ = ["ctrlmsg", "ifaddrmsg", "ifinfmsg"]


class EthtoolHeader(nla):
    nla_flags = NLA_F_NESTED
    nla_map = (
        (1, "ETHTOOL_A_HEADER_DEV_INDEX", "uint32"),
        (2, "ETHTOOL_A_HEADER_DEV_NAME", "asciiz"),
        (3, "ETHTOOL_A_HEADER_FLAGS", "uint32"),
    )


class Bitset(nla):
    """In its long form: bits by name."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        (1, "ETHTOOL_A_BITSET_NOMASK", "flag"),
        (2, "ETHTOOL_A_BITSET_SIZE", "uint32"),
        (3, "ETHTOOL_A_BITSET_BITS", "Bits"),
    )

    class Bits(nla):
        nla_flags = NLA_F_NESTED
        nla_map = ((1, "ETHTOOL_A_BITSET_BITS_BIT", "Bit"),)

        class Bit(nla):
            nla_flags = NLA_F_NESTED
            nla_map = (
                (1, "ETHTOOL_A_BITSET_BIT_INDEX", "uint32"),
                (2, "ETHTOOL_A_BITSET_BIT_NAME", "asciiz"),
                (3, "ETHTOOL_A_BITSET_BIT_VALUE", "flag"),
            )


class Features(genlmsg):
    nla_map = (
        (1, "ETHTOOL_A_FEATURES_HEADER", "EthtoolHeader"),
        (2, "ETHTOOL_A_FEATURES_HW", "Bitset"),
        (3, "ETHTOOL_A_FEATURES_WANTED", "Bitset"),
        (4, "ETHTOOL_A_FEATURES_ACTIVE", "Bitset"),
        (5, "ETHTOOL_A_FEATURES_NOCHANGE", "Bitset"),
    )
    EthtoolHeader = EthtoolHeader
    Bitset = Bitset


class PrivateFlags(genlmsg):
    nla_map = (
        (1, "ETHTOOL_A_PRIVFLAGS_HEADER", "EthtoolHeader"),
        (2, "ETHTOOL_A_PRIVFLAGS_FLAGS", "Bitset"),
    )
    EthtoolHeader = EthtoolHeader
    Bitset = Bitset


class Rings(genlmsg):
    nla_map = (
        (1, "ETHTOOL_A_RINGS_HEADER", "EthtoolHeader"),
        (2, "ETHTOOL_A_RINGS_RX_MAX", "uint32"),
        (5, "ETHTOOL_A_RINGS_TX_MAX", "uint32"),
        (6, "ETHTOOL_A_RINGS_RX", "uint32"),
        (9, "ETHTOOL_A_RINGS_TX", "uint32"),
        (10, "ETHTOOL_A_RINGS_RX_BUF_LEN", "uint32"),
        (11, "ETHTOOL_A_RINGS_TCP_DATA_SPLIT", "uint8"),
        (17, "ETHTOOL_A_RINGS_HDS_THRESH", "uint32"),
        (18, "ETHTOOL_A_RINGS_HDS_THRESH_MAX", "uint32"),
    )
    EthtoolHeader = EthtoolHeader


class Channels(genlmsg):
    nla_map = (
        (1, "ETHTOOL_A_CHANNELS_HEADER", "EthtoolHeader"),
        (2, "ETHTOOL_A_CHANNELS_RX_MAX", "uint32"),
        (3, "ETHTOOL_A_CHANNELS_TX_MAX", "uint32"),
        (5, "ETHTOOL_A_CHANNELS_COMBINED_MAX", "uint32"),
        (6, "ETHTOOL_A_CHANNELS_RX_COUNT", "uint32"),
        (7, "ETHTOOL_A_CHANNELS_TX_COUNT", "uint32"),
        (9, "ETHTOOL_A_CHANNELS_COMBINED_COUNT", "uint32"),
    )
    EthtoolHeader = EthtoolHeader


class Rss(genlmsg):
    nla_map = (
        (1, "ETHTOOL_A_RSS_HEADER", "EthtoolHeader"),
        (2, "ETHTOOL_A_RSS_CONTEXT", "uint32"),
        (3, "ETHTOOL_A_RSS_HFUNC", "uint32"),
        (4, "ETHTOOL_A_RSS_INDIR", "cdata"),
        (5, "ETHTOOL_A_RSS_HKEY", "cdata"),
        (6, "ETHTOOL_A_RSS_INPUT_XFRM", "uint32"),
        (8, "ETHTOOL_A_RSS_FLOW_HASH", "FlowHash"),
    )
    EthtoolHeader = EthtoolHeader

    class FlowHash(nla):
        """Which header fields are hashed (``RXH_*``), by kind of flow."""

        nla_flags = NLA_F_NESTED
        nla_map = (
            (2, "ETHTOOL_A_FLOW_IP4", "cdata"),
            (3, "ETHTOOL_A_FLOW_IP6", "cdata"),
            (4, "ETHTOOL_A_FLOW_TCP4", "cdata"),
            (5, "ETHTOOL_A_FLOW_TCP6", "cdata"),
            (6, "ETHTOOL_A_FLOW_UDP4", "cdata"),
            (7, "ETHTOOL_A_FLOW_UDP6", "cdata"),
        )


class Dev(genlmsg):
    nla_map = (
        (1, "NETDEV_A_DEV_IFINDEX", "uint32"),
        (3, "NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


class Queue(genlmsg):
    nla_map = (
        (1, "NETDEV_A_QUEUE_ID", "uint32"),
        (2, "NETDEV_A_QUEUE_IFINDEX", "uint32"),
        (3, "NETDEV_A_QUEUE_TYPE", "uint32"),
        (4, "NETDEV_A_QUEUE_NAPI_ID", "uint32"),
        (5, "NETDEV_A_QUEUE_DMABUF", "uint32"),
        (6, "NETDEV_A_QUEUE_IO_URING", "IoUring"),
        (7, "NETDEV_A_QUEUE_XSK", "cdata"),
        (8, "NETDEV_A_QUEUE_LEASE", "Lease"),
    )

    class IoUring(nla):
        nla_flags = NLA_F_NESTED
        nla_map = ((1, "NETDEV_A_IO_URING_PROVIDER_INFO_RX_BUF_LEN", "uint32"),)

    class Lease(nla):
        nla_flags = NLA_F_NESTED
        nla_map = (
            (1, "NETDEV_A_LEASE_IFINDEX", "uint32"),
            (2, "NETDEV_A_LEASE_QUEUE", "LeasedQueue"),
            (3, "NETDEV_A_LEASE_NETNS_ID", "int32"),
        )

        class LeasedQueue(nla):
            nla_flags = NLA_F_NESTED
            nla_map = (
                (1, "NETDEV_A_QUEUE_ID", "uint32"),
                (3, "NETDEV_A_QUEUE_TYPE", "uint32"),
            )


class Napi(genlmsg):
    nla_map = (
        (1, "NETDEV_A_NAPI_IFINDEX", "uint32"),
        (2, "NETDEV_A_NAPI_ID", "uint32"),
        (3, "NETDEV_A_NAPI_IRQ", "uint32"),
        (4, "NETDEV_A_NAPI_PID", "uint32"),
        (5, "NETDEV_A_NAPI_DEFER_HARD_IRQS", "uint32"),
        (6, "NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT", "cdata"),
        (7, "NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT", "cdata"),
        (8, "NETDEV_A_NAPI_THREADED", "cdata"),
    )


class PagePool(genlmsg):
    nla_map = (
        (1, "NETDEV_A_PAGE_POOL_ID", "cdata"),
        (2, "NETDEV_A_PAGE_POOL_IFINDEX", "uint32"),
        (3, "NETDEV_A_PAGE_POOL_NAPI_ID", "cdata"),
        (4, "NETDEV_A_PAGE_POOL_INFLIGHT", "cdata"),
        (5, "NETDEV_A_PAGE_POOL_INFLIGHT_MEM", "cdata"),
        (6, "NETDEV_A_PAGE_POOL_DETACH_TIME", "cdata"),
        (7, "NETDEV_A_PAGE_POOL_DMABUF", "uint32"),
        (8, "NETDEV_A_PAGE_POOL_IO_URING", "cdata"),
    )

"""The numbers in the netlink messages that the NIC needs, named as in the kernel's headers.

The messages themselves are attributes too (``tables.Rings``); the first one that is used
imports :mod:`pyzcrx.nic.messages`, and pyroute2 with it.

Kernel: ``Documentation/netlink/specs/ethtool.yaml``, ``netdev.yaml`` (7.3).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

GENL_ID_CTRL = 16
RTM_GETLINK = 18
RTM_GETADDR = 22
ETHTOOL_MCGRP_MONITOR_NAME = "monitor"


class EthtoolMsg(IntEnum):
    """``ETHTOOL_MSG_*``, from user to kernel."""

    FEATURES_GET = 11
    FEATURES_SET = 12
    PRIVFLAGS_GET = 13
    PRIVFLAGS_SET = 14
    RINGS_GET = 15
    RINGS_SET = 16
    CHANNELS_GET = 17
    RSS_GET = 38
    RSS_SET = 48
    RSS_CREATE_ACT = 49
    RSS_DELETE_ACT = 50


class EthtoolNtf(IntEnum):
    """``ETHTOOL_MSG_*_NTF``, from the kernel to the group "monitor"."""

    RINGS_NTF = 17


class TcpDataSplit(IntEnum):
    """``ETHTOOL_TCP_DATA_SPLIT_*``; UNKNOWN set means: as the driver likes."""

    UNKNOWN = 0
    DISABLED = 1
    ENABLED = 2


class NetdevCmd(IntEnum):
    """``NETDEV_CMD_*``"""

    DEV_GET = 1
    PAGE_POOL_GET = 5
    QUEUE_GET = 10
    NAPI_GET = 11
    NAPI_SET = 14


class QueueType(IntEnum):
    """``NETDEV_QUEUE_TYPE_*``"""

    RX = 0
    TX = 1


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # the import system asks
        raise AttributeError(name)
    from pyzcrx.nic import messages  # late: who asks no NIC needs none

    return getattr(messages, name)

"""ethtool over netlink: channels, rings, features, private flags, RSS.

Kernel: ``net/ethtool/`` (rings.c, channels.c, features.c, privflags.c, rss.c). Setting RSS
and its contexts by netlink needs 6.17.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyzcrx.errors import NotSupported
from pyzcrx.nic import tables
from pyzcrx.nic.netlink import Family, uint
from pyzcrx.nic.state import Channels, Rings, Rss
from pyzcrx.nic.tables import EthtoolMsg, EthtoolNtf, TcpDataSplit


@contextmanager
def _if_supported() -> Iterator[None]:
    try:
        yield
    except NotSupported:
        return


class Ethtool(Family):
    """Reads give None, or nothing, where the NIC has no such thing.

    Every call raises the KernelError of its errno: NoSuchInterface (ENODEV),
    NotPermitted (EPERM; reading needs no privilege), NotSupported (EOPNOTSUPP),
    InvalidRequest (EINVAL), with the kernel's explanation.
    """

    def __init__(self) -> None:
        super().__init__("ethtool")

    # -- reading ------------------------------------------------------------

    def channels(self, ifindex: int) -> Channels | None:
        with _if_supported():
            (found,) = self._get(EthtoolMsg.CHANNELS_GET, tables.Channels, "CHANNELS", ifindex)
            return Channels(
                *(
                    found.get_attr(f"ETHTOOL_A_CHANNELS_{name}") or 0
                    for name in ("COMBINED_COUNT", "COMBINED_MAX", "RX_COUNT", "RX_MAX")
                )
            )
        return None

    def rings(self, ifindex: int) -> Rings | None:
        with _if_supported():
            (found,) = self._get(EthtoolMsg.RINGS_GET, tables.Rings, "RINGS", ifindex)

            def get(name: str) -> int | None:
                value: int | None = found.get_attr(f"ETHTOOL_A_RINGS_{name}")
                return value

            split = get("TCP_DATA_SPLIT")
            return Rings(
                rx=get("RX"),
                rx_max=get("RX_MAX"),
                tx=get("TX"),
                tx_max=get("TX_MAX"),
                rx_buf_len=get("RX_BUF_LEN"),
                tcp_data_split=None if not split else split == TcpDataSplit.ENABLED,
                hds_thresh=get("HDS_THRESH"),
                hds_thresh_max=get("HDS_THRESH_MAX"),
            )
        return None

    def features(self, ifindex: int) -> dict[str, bool]:
        """Those that can be changed, and whether they are on, by the kernel's names."""
        with _if_supported():
            (found,) = self._get(EthtoolMsg.FEATURES_GET, tables.Features, "FEATURES", ifindex)
            changeable = _bits(found.get_attr("ETHTOOL_A_FEATURES_HW"))
            active = _bits(found.get_attr("ETHTOOL_A_FEATURES_ACTIVE"))
            return {
                name: active.get(name, False) for name in sorted(changeable) if changeable[name]
            }
        return {}

    def private_flags(self, ifindex: int) -> dict[str, bool]:
        with _if_supported():
            (found,) = self._get(
                EthtoolMsg.PRIVFLAGS_GET, tables.PrivateFlags, "PRIVFLAGS", ifindex
            )
            return _bits(found.get_attr("ETHTOOL_A_PRIVFLAGS_FLAGS"))
        return {}

    def rss(self, ifindex: int) -> tuple[Rss, ...]:
        """The default context first, then the others; empty where the NIC has no RSS."""
        with _if_supported():
            found = self._get(EthtoolMsg.RSS_GET, tables.Rss, "RSS", ifindex, dump=True)
            # Before 6.9 the filter is not looked at.
            own = (
                _rss(m)
                for m in found
                if m.get_attr("ETHTOOL_A_RSS_HEADER").get_attr("ETHTOOL_A_HEADER_DEV_INDEX")
                == ifindex
            )
            return tuple(sorted(own, key=lambda rss: rss.context))
        return ()

    def _get(
        self, command: EthtoolMsg, table: Any, prefix: str, ifindex: int, *, dump: bool = False
    ) -> list[Any]:
        what = f"read {prefix.lower()}"
        header = [(f"ETHTOOL_A_{prefix}_HEADER", _device(ifindex))]
        return self.call(command, table, header, what, f"interface {ifindex}", dump=dump)

    # -- changing -----------------------------------------------------------

    def set_rings(
        self,
        ifindex: int,
        *,
        rx: int | None = None,
        tcp_data_split: TcpDataSplit | None = None,
        hds_thresh: int | None = None,
    ) -> bool:
        """Gives whether the kernel had anything to change.

        It compares with what it was *told* last, not with what the driver does:
        so this is how to learn whether header split was asked for before.
        """
        values = {"RX": rx, "TCP_DATA_SPLIT": tcp_data_split, "HDS_THRESH": hds_thresh}
        attributes = [
            (f"ETHTOOL_A_RINGS_{name}", int(value))
            for name, value in values.items()
            if value is not None
        ]
        what = "set rings"
        if tcp_data_split is not None:
            what = "set tcp-data-split"
        elif hds_thresh is not None:
            what = "set hds-thresh"
        self.listen(tables.ETHTOOL_MCGRP_MONITOR_NAME, tables.Rings)
        self.take_notes()
        self._set(EthtoolMsg.RINGS_SET, tables.Rings, "RINGS", ifindex, attributes, what)
        # The notification is sent before the answer.
        return any(
            note["cmd"] == EthtoolNtf.RINGS_NTF and _ifindex_of(note, "RINGS") == ifindex
            for note in self.take_notes()
        )

    def set_features(self, ifindex: int, wanted: Mapping[str, bool]) -> None:
        """Ask for features; the NIC may keep some as they are, so read them back."""
        bits = [("ETHTOOL_A_FEATURES_WANTED", _bitset(wanted))]
        self._set(
            EthtoolMsg.FEATURES_SET, tables.Features, "FEATURES", ifindex, bits, "set features"
        )

    def set_private_flags(self, ifindex: int, wanted: Mapping[str, bool]) -> None:
        bits = [("ETHTOOL_A_PRIVFLAGS_FLAGS", _bitset(wanted))]
        self._set(
            EthtoolMsg.PRIVFLAGS_SET,
            tables.PrivateFlags,
            "PRIVFLAGS",
            ifindex,
            bits,
            "set private flags",
        )

    def set_rss_table(self, ifindex: int, table: Sequence[int], *, context: int = 0) -> None:
        """An empty *table* gives the default context back to the kernel's own spread."""
        attributes: list[tuple[str, Any]] = [("ETHTOOL_A_RSS_INDIR", _packed(table))]
        if context:
            attributes.append(("ETHTOOL_A_RSS_CONTEXT", context))
        self._set(EthtoolMsg.RSS_SET, tables.Rss, "RSS", ifindex, attributes, "set RSS")

    def create_rss_context(self, ifindex: int, context: int, table: Sequence[int]) -> None:
        """A context of that number. Raises QueueBusy (EBUSY) where there is one."""
        attributes = [
            ("ETHTOOL_A_RSS_CONTEXT", context),
            ("ETHTOOL_A_RSS_INDIR", _packed(table)),
        ]
        what = "create RSS context"
        self._set(EthtoolMsg.RSS_CREATE_ACT, tables.Rss, "RSS", ifindex, attributes, what)

    def delete_rss_context(self, ifindex: int, context: int) -> None:
        attributes = [("ETHTOOL_A_RSS_CONTEXT", context)]
        what = "delete RSS context"
        self._set(EthtoolMsg.RSS_DELETE_ACT, tables.Rss, "RSS", ifindex, attributes, what)

    def _set(
        self,
        command: EthtoolMsg,
        table: Any,
        prefix: str,
        ifindex: int,
        attributes: Sequence[tuple[str, Any]],
        what: str,
    ) -> None:
        header = (f"ETHTOOL_A_{prefix}_HEADER", _device(ifindex))
        self.call(command, table, [header, *attributes], what, f"interface {ifindex}")


def _device(ifindex: int) -> dict[str, Any]:
    return {"attrs": [("ETHTOOL_A_HEADER_DEV_INDEX", ifindex)]}


def _ifindex_of(message: Any, prefix: str) -> int | None:
    header = message.get_attr(f"ETHTOOL_A_{prefix}_HEADER")
    index: int | None = header and header.get_attr("ETHTOOL_A_HEADER_DEV_INDEX")
    return index


def _bits(bitset: Any) -> dict[str, bool]:
    """A bitset's bits by name. One without a mask lists those that are set."""
    if bitset is None or bitset.get_attr("ETHTOOL_A_BITSET_BITS") is None:
        return {}
    all_set = bitset.get_attr("ETHTOOL_A_BITSET_NOMASK") is not None
    bits = bitset.get_attr("ETHTOOL_A_BITSET_BITS").get_attrs("ETHTOOL_A_BITSET_BITS_BIT")
    return {
        bit.get_attr("ETHTOOL_A_BITSET_BIT_NAME"): all_set
        or bit.get_attr("ETHTOOL_A_BITSET_BIT_VALUE") is not None
        for bit in bits
    }


def _bitset(wanted: Mapping[str, bool]) -> dict[str, Any]:
    bits = []
    for name, on in wanted.items():
        attributes: list[tuple[str, Any]] = [("ETHTOOL_A_BITSET_BIT_NAME", name)]
        if on:
            attributes.append(("ETHTOOL_A_BITSET_BIT_VALUE", None))
        bits.append(("ETHTOOL_A_BITSET_BITS_BIT", {"attrs": attributes}))
    return {"attrs": [("ETHTOOL_A_BITSET_BITS", {"attrs": bits})]}


def _packed(table: Sequence[int]) -> bytes:
    return struct.pack(f"={len(table)}I", *table)


def _rss(message: Any) -> Rss:
    table = message.get_attr("ETHTOOL_A_RSS_INDIR") or b""
    hashed = message.get_attr("ETHTOOL_A_RSS_FLOW_HASH")
    return Rss(
        context=message.get_attr("ETHTOOL_A_RSS_CONTEXT") or 0,
        table=struct.unpack(f"={len(table) // 4}I", table),
        key=(message.get_attr("ETHTOOL_A_RSS_HKEY") or b"").hex(),
        hash_function=message.get_attr("ETHTOOL_A_RSS_HFUNC") or 0,
        input_transform=message.get_attr("ETHTOOL_A_RSS_INPUT_XFRM") or 0,
        fields={
            name.removeprefix("ETHTOOL_A_FLOW_").lower(): uint(value) or 0
            for name, value in (hashed["attrs"] if hashed else ())
            if name.startswith("ETHTOOL_A_FLOW_")
        },
    )

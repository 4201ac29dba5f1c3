"""Fixes, made: each is one change of a system setting or of a card's."""

from __future__ import annotations

from pathlib import Path

from pyzcrx.doctor.finding import Fix
from pyzcrx.errors import BadArgument
from pyzcrx.meanings import kernel_error
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.read import Reader
from pyzcrx.nic.tables import TcpDataSplit

SYSCTL = Path("/proc/sys")


def apply(fix: Fix, ifindex: int | None) -> None:
    """Make it so. Raises the KernelError of the errno; it is not undone by itself."""
    kind, _, name = fix.key.partition(":")
    if kind == "sysctl":
        try:
            (SYSCTL / name.replace(".", "/")).write_text(f"{fix.value}\n")
        except OSError as error:
            raise kernel_error(error.errno or 0, "set sysctl", name) from None
        return
    if ifindex is None:
        raise BadArgument(f"{fix.key} is a setting of a card")
    with Reader() as kernel:
        match kind:
            case "tcp-data-split":
                kernel.ethtool.set_rings(ifindex, tcp_data_split=TcpDataSplit.ENABLED)
            case "hds-thresh":
                kernel.ethtool.set_rings(ifindex, hds_thresh=fix.value)
            case "feature":
                kernel.ethtool.set_features(ifindex, {name: fix.value})
            case "private-flag":
                kernel.ethtool.set_private_flags(ifindex, {name: fix.value})
            case "rss":
                kernel.ethtool.set_rss_table(ifindex, fix.value)
            case "rule":
                flow, queue = fix.value
                Ntuple(ifindex).insert(Flow.parse(flow), queue=queue)
            case _:
                raise BadArgument(f"no fix is called {fix.key!r}")

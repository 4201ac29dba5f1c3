"""Fixes, made: each is one change of a system setting or of a NIC's."""

from __future__ import annotations

from pathlib import Path

from pyzcrx._kernel.meanings import typed
from pyzcrx.doctor.finding import Fix
from pyzcrx.errors import BadArgument
from pyzcrx.nic import settings
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.read import Reader

SYSCTL = Path("/proc/sys")


def apply(fix: Fix, ifindex: int | None) -> None:
    """Apply *fix*; it is not undone by itself. ifindex: of the NIC, if it is a setting of one.

    Raises the KernelError of the errno, BadArgument where the NIC is lacking.
    """
    kind, _, name = fix.key.partition(":")
    if kind == "sysctl":
        try:
            (SYSCTL / name.replace(".", "/")).write_text(f"{fix.value}\n")
        except OSError as error:
            raise typed(error, "set sysctl", name) from None
        return
    if ifindex is None:
        raise BadArgument(f"{fix.key} is a setting of a NIC")
    if kind == "rule":
        flow, queue = fix.value
        Ntuple(ifindex).insert(Flow.parse(flow), queue=queue)
        return
    with Reader() as kernel:
        settings.change(kernel, ifindex, fix.key, fix.value)

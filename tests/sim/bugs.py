"""Kernel bugs, reproduced on the NIC of the guest's tests: ``python3 -m tests.sim.bugs NAME``.

docs/reference/kernel-bugs.md has the command for each, and what it does to the guest. No test
runs this: some of it ends the kernel.
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable

import pyzcrx
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx.uapi import CtrlOp
from tests.guest.card import CARD, PATIENCE_S, Sim, register, run


def _nic() -> Sim:
    if not isinstance(CARD, Sim):
        raise SystemExit("this bug needs a NIC: PYZCRX_TEST_CARD=sim")
    run("ethtool", "-G", CARD.interface, "tcp-data-split", "on")
    run("ethtool", "-X", CARD.interface, "start", str(CARD.queue), "equal", "1")
    return CARD


def urgent_panic() -> None:
    """A plain socket on a bound queue gets one byte of urgent data."""
    nic = _nic()
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(16 << 20) as area,
        socket.create_server((nic.server, 0)) as listener,
        nic.socket() as client,
    ):
        register(ring, area)
        client.connect(listener.getsockname())
        client.sendall(b"abc")
        client.send(b"d", socket.MSG_OOB)
        time.sleep(PATIENCE_S)  # a kernel that has it does not come back


def add_area_token() -> None:
    """An area that cannot be added, tried twice with one structure."""
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 20) as area:
        ifq = ring.register_ifq(area)
        reg = ffi.new("struct pz_area_reg *", {"addr": 4096, "len": 4096})
        ctrl = ffi.new("struct pz_ctrl *", {"zcrx_id": ifq.zcrx_id, "op": CtrlOp.ADD_AREA})
        ctrl.payload[0] = int(ffi.cast("uintptr_t", reg))
        for _ in range(2):
            result = -int(lib.pz_zcrx_ctrl(ring._core.raw, ctrl))
            print(f"{errno.errorcode.get(result, result)}, rq_area_token {reg.rq_area_token:#x}")


BUGS: dict[str, Callable[[], None]] = {
    "urgent-panic": urgent_panic,
    "add-area-token": add_area_token,
}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()

"""Kernel bugs, reproduced in the guest: ``python3 -m tests.sim.bugs NAME``.

docs/reference/kernel-bugs.md has the command for each, and what it does to the guest. No test
runs this: most of it ends the kernel.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pyzcrx
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx.nic import prepare
from pyzcrx.uapi import CtrlOp
from tests.guest.card import PATIENCE_S, Sim, run

NIC = Sim()
"""One end of the guest's pair, of simulated NICs or of modelled gVNICs."""
ASK_MODEL = "/run/pyzcrx/gve/ask.py"


@contextmanager
def bound() -> Iterator[socket.socket]:
    """A connection of a plain socket whose flow is steered to a bound queue; its far end."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((NIC.server, 0)))
        flow = f"tcp4 dst {NIC.server}:{listener.getsockname()[1]}"
        setup = stack.enter_context(prepare(NIC.interface, flow, queue=NIC.queue))
        ring = stack.enter_context(pyzcrx.Ring())
        area = stack.enter_context(pyzcrx.Area.anonymous(64 << 20))
        ring.register_ifq(area, setup)
        client = stack.enter_context(NIC.socket())
        client.settimeout(PATIENCE_S)
        client.connect(listener.getsockname())
        yield client


def urgent_panic() -> None:
    """The socket gets one byte of urgent data."""
    with bound() as client:
        client.sendall(b"abc")
        client.send(b"d", socket.MSG_OOB)
        time.sleep(PATIENCE_S)  # a kernel that has it does not come back


def gve_header_overflow() -> None:
    """The device says of a frame of the socket that its headers do not fit."""
    with bound() as client:
        wanted = '{"nic": 0, "faults": {"overflow": 1}}'
        subprocess.run([sys.executable, ASK_MODEL, wanted], check=True)
        client.sendall(os.urandom(1 << 16))
        time.sleep(PATIENCE_S)


def refused_restart() -> None:
    """A registration on the queue that gve never restarts."""
    run("ethtool", "-G", NIC.interface, "tcp-data-split", "on")
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(64 << 20) as area:
        try:
            ring.register_ifq(area, interface=NIC.interface, rx_queue=0)
        except pyzcrx.KernelError as error:
            print(error)


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
    "gve-header-overflow": gve_header_overflow,
    "refused-restart": refused_restart,
    "add-area-token": add_area_token,
}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()

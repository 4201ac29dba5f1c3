"""What the guest's tests receive on: nothing (NODEV), or one end of a pair, simulated (sim) or of
modelled NICs with a real driver (gve).

Chosen by PYZCRX_TEST_CARD, ``nodev``, ``sim`` or ``gve``. With a pair, servers listen on this
end, ``zcrx0``, all of whose flows are steered to one queue; clients live in a network
namespace with the other end.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pyzcrx
import pyzcrx.urgent
from pyzcrx.nic.read import Reader
from tests import namespaces
from tests.guest.stuck import stuck
from tests.patience import PATIENCE_S as PATIENCE_S
from tests.patience import SLOW, START_S, until

KIND = os.environ.get("PYZCRX_TEST_CARD", "nodev")
FAULTS = (
    "drop",
    "duplicate",
    "reorder",
    "delay",
    "corrupt",
    "linear",
    "part_split",
    "post_fail",
    "skb_fail",
    "starve",
    "post_limit",
)
"""Rates of a million frames, but for the last two."""
PATIENT_TCP = (
    f"net.ipv4.tcp_rto_max_ms={int(min(5 * SLOW, 120) * 1000)}",
    "net.ipv4.tcp_retries2=255",
    "net.ipv4.tcp_fin_timeout=5",
)
"""Frames are lost on purpose, or by a peer whose small receive buffer is full, and each loss
doubles the time to the next try, up to two minutes by default. So: tried again every few seconds,
and never given up. Not sooner:
who has data under way to a peer with a shut window, and hears nothing for twice as long, is
given up all the same (``net/ipv4/tcp_timer.c:tcp_rtx_probe0_timed_out()``).

A socket whose FIN was acknowledged while it was being closed waits so long for its peer's as
an orphan, 60 s by default (``net/ipv4/tcp_input.c:tcp_rcv_state_process()``)."""


def run(*argv: str) -> str:
    """A set-up command; its stdout."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


_namespaces = threading.Lock()


def socket_in(netns: str, family: int = socket.AF_INET) -> socket.socket:
    """A socket of a network namespace: of the one where its thread was when it was made."""
    if sys.version_info < (3, 12):
        raise RuntimeError("the simulated pair's tests need os.setns() of Python 3.12")
    with _namespaces, open("/proc/thread-self/ns/net") as here:
        with open(f"/run/netns/{netns}") as there:
            os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            return socket.socket(family)
        finally:
            os.setns(here.fileno(), os.CLONE_NEWNET)


class Nodev:
    """No card: loopback, everything copied."""

    zero_copy = False
    server = "127.0.0.1"
    peer_address = "127.0.0.1"
    register: ClassVar[dict[str, Any]] = {}
    place: tuple[str, ...] = ()
    echo_options: tuple[str, ...] = ("--nodev",)
    client_prefix: tuple[str, ...] = ()

    def set_up(self) -> None:
        """Before any test. Peers that do not read have segments dropped here, too."""
        run("sysctl", "-q", *PATIENT_TCP)

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        """A client's socket, unconnected."""
        return socket.socket(family)

    def copied(self, stats: dict[str, Any]) -> bool:
        """Whether the figures say what is true of this card."""
        return bool(stats["bytes_copied"] == stats["bytes"] and stats["bytes_zero_copy"] == 0)

    def bench_says(self, copied: float | None) -> bool:
        """Whether zcrx-bench's share of copied bytes is true of this card."""
        return copied == 1

    def queue_free(self) -> None:
        """Wait until the kernel has given the queue back."""

    def urgent_defence(self) -> AbstractContextManager[None]:
        """What must be in place before a peer sends urgent data."""
        return nullcontext()

    def stuck(self) -> str:
        """What there is to know when nothing moves."""
        return stuck()


class Pair(Nodev):
    """Queue 1 of ``zcrx0``, the peer ``zcrx1`` in a namespace of its own."""

    zero_copy = True
    interface = "zcrx0"
    peer = "zcrx1"
    queue = 1
    netns = "peer"
    server = "192.0.2.1"
    peer_address = "192.0.2.2"
    server_v6 = "2001:db8::1"
    register: ClassVar[dict[str, Any]] = {"interface": interface, "rx_queue": queue}
    place = ("-i", interface, "-q", str(queue))
    echo_options = (*place, "--no-setup-nic")
    client_prefix = ("ip", "netns", "exec", netns)

    def set_up(self) -> None:
        """The pair, unless it is there: addresses, header split, every flow to our queue."""
        if os.path.exists(f"/run/netns/{self.netns}"):
            return
        self.lay_out()
        for prefix in ((), self.client_prefix):
            run(*prefix, "sysctl", "-q", *PATIENT_TCP)

    def lay_out(self) -> None:
        """Its interfaces, set up for our queue."""
        raise NotImplementedError

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        return socket_in(self.netns, family)

    @contextmanager
    def urgent_defence(self) -> Iterator[None]:
        subprocess.run(["nft", "-f", "-"], input=pyzcrx.urgent.NFT_RULES, text=True, check=True)
        try:
            yield
        finally:
            run("nft", "delete", "table", "inet", "pyzcrx")

    def books(self) -> str:
        """What the NIC itself has counted."""
        raise NotImplementedError

    def without_area(self) -> int:
        """How often there was no buffer in the area for it."""
        raise NotImplementedError

    def counter(self, name: str) -> int:
        """A counter of our end, by ``ethtool -S``."""
        for line in run("ethtool", "-S", self.interface).splitlines():
            key, _, value = line.strip().partition(":")
            if key == name:
                return int(value)
        raise KeyError(name)

    def stuck(self) -> str:
        said = [stuck(self.netns), self.books()]
        for device in (self.interface, self.peer):
            prefix = ["ip", "netns", "exec", self.netns] if device == self.peer else []
            lines = run(*prefix, "ethtool", "-S", device).splitlines()
            said += [device, *(line for line in lines if not line.endswith(": 0"))]
        return "\n".join(said)

    def copied(self, stats: dict[str, Any]) -> bool:
        # What arrived before the queue was bound lies in kernel pages and is copied.
        return stats["bytes_zero_copy"] is None and bool(stats["bytes_copied"] < stats["bytes"])

    def queue_free(self) -> None:
        # By a look only: a registration to try it by would itself stay a moment.
        index = socket.if_nametoindex(self.interface)
        with Reader() as kernel:
            assert kernel._netdev is not None
            held = kernel._netdev.wait_unbound(index, (self.queue,), PATIENCE_S)
            assert not held, f"the queue was not given back\n{self.stuck()}"


class Sim(Pair):
    """The simulated pair, vm/zcrxsim."""

    faults = Path("/sys/kernel/debug/zcrxsim") / Pair.interface / str(Pair.queue)

    def lay_out(self) -> None:
        run("/run/pyzcrx/zcrxsim/setup")
        run("ethtool", "-G", self.interface, "tcp-data-split", "on")
        run("ethtool", "-X", self.interface, "start", str(self.queue), "equal", "1")

    def take_down(self) -> None:
        """Unload the module and remove the namespace, where they are still there."""
        if os.path.exists("/sys/module/zcrxsim"):
            run("rmmod", "zcrxsim")
        if os.path.exists(f"/run/netns/{self.netns}"):
            namespaces.remove(self.netns)

    def bench_says(self, copied: float | None) -> bool:
        return copied is not None and copied <= 0.02

    def books(self) -> str:
        return (self.faults / "counts").read_text()

    def without_area(self) -> int:
        return self.counter("rx_drop_nobuf")

    def fault(self, **knobs: int | str) -> None:
        """Set fault knobs of our queue."""
        for knob, value in knobs.items():
            (self.faults / knob).write_text(f"{value}\n")

    def quiet(self) -> None:
        """No faults, a fresh seed, and rates that count frames with payload."""
        self.fault(**dict.fromkeys(FAULTS, 0), seed=1, payload_only=1)

    def fault_counts(self) -> dict[str, int]:
        """How often each fault has struck since the seed was set."""
        lines = (self.faults / "counts").read_text().split("\n")
        return {name: int(n) for name, n in (line.split() for line in lines if line)}


class Gve(Pair):
    """The kernel's own driver gve, on NICs that are modelled (vm/gve)."""

    folder = Path("/run/pyzcrx/gve")

    def bare(self) -> None:
        """Interfaces and addresses, also where the driver or the devices were away."""
        run(f"{self.folder}/setup")

    @property
    def is_there(self) -> bool:
        """Whether the driver has it."""
        return Path(f"/sys/class/net/{self.interface}").exists()

    def lay_out(self) -> None:
        """By pyzcrx.nic: split, a rule for each family, other flows off our queue."""
        self.bare()
        flows = (f"tcp4 dst {self.server}", f"tcp6 dst [{self.server_v6}]")
        named = [part for flow in flows for part in ("-f", flow)]
        run("zcrx-nic", "setup", self.interface, "-q", str(self.queue), *named, "--force")

    def ask(self, **request: Any) -> dict[str, Any]:
        """A request to the model; what its NIC 0, ours, has counted unless another is named."""
        program = runpy.run_path(f"{self.folder}/ask.py")
        answer: dict[str, Any] = program["ask"](**{"nic": 0} | request)
        return answer

    def carrier(self) -> None:
        """Wait for it: the driver takes it away for a moment at each restart of a queue."""
        state = Path(f"/sys/class/net/{self.interface}/operstate")
        until(lambda: state.read_text() == "up\n", "no carrier", patience_s=PATIENCE_S)

    def bench_says(self, copied: float | None) -> bool:
        return copied is None  # it reads only the simulated card's own counters

    def books(self) -> str:
        return json.dumps(self.ask())

    def of_queue(self, name: str, queue: int | None = None) -> int:
        """A counter of an rx queue, ours unless another is named."""
        number = self.queue if queue is None else queue
        return int(self.ask()["queues"].get(str(number), {}).get(name, 0))

    def without_area(self) -> int:
        """The driver could fill no place of a ring (gve_rx_post_buffers_dqo()). That a burst finds
        a ring of 256 empty before the driver has filled it again is another matter.
        """
        return self.counter("rx_buf_alloc_fail")


ONE_BUFFER = (
    "expected: an area of one buffer is less than a card needs for one segment of two frames: "
    "its peers never get beyond time-outs"
)

CARDS: dict[str, type[Nodev]] = {"nodev": Nodev, "sim": Sim, "gve": Gve}
CARD = CARDS[KIND]()


def connect(port: int, server: str | None = None) -> socket.socket:
    """A client's connection to a server on the card, or at another address."""
    sock = CARD.socket()
    sock.settimeout(START_S)
    sock.connect((server or CARD.server, port))
    return sock


def register(ring: pyzcrx.Ring, area: pyzcrx.Area, **options: Any) -> pyzcrx.Ifq:
    """An ifq on the card; a queue that was just closed comes back a moment later."""
    return ring.register_ifq(area, timeout=PATIENCE_S, **CARD.register, **options)

"""What the guest's tests receive on: nothing (NODEV), or one end of a simulated pair.

Chosen by PYZCRX_TEST_CARD, ``nodev`` or ``sim``. With the pair, servers listen on this
end, ``zcrx0``, all of whose flows are steered to one queue; clients live in a network
namespace with the other end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pyzcrx

KIND = os.environ.get("PYZCRX_TEST_CARD", "nodev")
PATIENCE_S = 30


def run(*argv: str) -> str:
    """A set-up command; its stdout."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Nodev:
    """No card: loopback, everything copied."""

    zero_copy = False
    server = "127.0.0.1"
    register: ClassVar[dict[str, Any]] = {}
    echo_options: tuple[str, ...] = ("--nodev",)
    client_prefix: tuple[str, ...] = ()

    def socket(self) -> socket.socket:
        """A client's socket, unconnected."""
        return socket.socket()

    def copied(self, stats: dict[str, Any]) -> bool:
        """Whether the figures say what is true of this card."""
        return bool(stats["bytes_copied"] == stats["bytes"] and stats["bytes_zero_copy"] == 0)

    @contextmanager
    def small_area(self) -> Iterator[None]:
        """While an area may be smaller than what a card keeps posted."""
        yield

    def queue_free(self) -> None:
        """Wait until the kernel has given the queue back."""


class Sim(Nodev):
    """Queue 1 of ``zcrx0``, the peer ``zcrx1`` in a namespace of its own."""

    zero_copy = True
    interface = "zcrx0"
    queue = 1
    netns = "peer"
    server = "10.0.0.1"
    register: ClassVar[dict[str, Any]] = {"interface": interface, "rx_queue": queue}
    echo_options = ("-i", interface, "-q", str(queue))
    client_prefix = ("ip", "netns", "exec", netns)

    def __init__(self) -> None:
        self._namespaces = threading.Lock()

    def set_up(self) -> None:
        """The pair, once a boot: addresses, header split, every flow to our queue."""
        if os.path.exists(f"/run/netns/{self.netns}"):
            return
        run("ip", "netns", "add", self.netns)
        run("ip", "link", "set", "zcrx1", "netns", self.netns)
        for prefix, device, host in ((), "zcrx0", 1), (("-n", self.netns), "zcrx1", 2):
            run("ip", *prefix, "address", "add", f"10.0.0.{host}/24", "dev", device)
            run("ip", *prefix, "address", "add", f"fd00::{host}/64", "dev", device, "nodad")
            run("ip", *prefix, "link", "set", device, "up")
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        run("ethtool", "-G", self.interface, "tcp-data-split", "on")
        run("ethtool", "-X", self.interface, "start", str(self.queue), "equal", "1")

    def socket(self) -> socket.socket:
        # A socket stays in the namespace that its thread was in when it was made.
        if sys.version_info < (3, 12):
            raise RuntimeError("the simulated pair's tests need os.setns() of Python 3.12")
        with self._namespaces, open("/proc/thread-self/ns/net") as here:
            with open(f"/run/netns/{self.netns}") as there:
                os.setns(there.fileno(), os.CLONE_NEWNET)
            try:
                return socket.socket()
            finally:
                os.setns(here.fileno(), os.CLONE_NEWNET)

    def copied(self, stats: dict[str, Any]) -> bool:
        return stats["bytes_copied"] is None or bool(stats["bytes_copied"] == 0)

    def counter(self, name: str) -> int:
        """A counter of our end, by the card's own books."""
        for line in run("ethtool", "-S", self.interface).splitlines():
            key, _, value = line.strip().partition(":")
            if key == name:
                return int(value)
        raise KeyError(name)

    @contextmanager
    def small_area(self) -> Iterator[None]:
        run("ethtool", "-G", self.interface, "rx", "4")
        try:
            yield
        finally:
            self.queue_free()
            run("ethtool", "-G", self.interface, "rx", "512")

    def queue_free(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 << 20) as area:
                    ring.register_ifq(area, **self.register)
                return
            except pyzcrx.QueueBound:
                assert time.monotonic() < deadline, "the queue was not given back"
                time.sleep(0.02)


CARD: Nodev | Sim = Sim() if KIND == "sim" else Nodev()


def connect(port: int) -> socket.socket:
    """A client's connection to a server on the card."""
    sock = CARD.socket()
    sock.settimeout(60)
    sock.connect((CARD.server, port))
    return sock


def register(ring: pyzcrx.Ring, area: pyzcrx.Area, **options: Any) -> pyzcrx.Ifq:
    """An ifq on the card; a queue that was just closed comes back a moment later."""
    return ring.register_ifq(area, patience=PATIENCE_S, **CARD.register, **options)

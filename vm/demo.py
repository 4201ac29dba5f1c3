"""``scripts/demo``: a real client's bytes through zcrx and back, compared.

In the guest on the simulated NIC, where they are not copied; with ``nodev`` in the
guest without a NIC; with ``native`` on a machine whose own kernel has NODEV. What was
asked for and cannot be had fails: nothing else takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click

from vm import ahead, emulator, external, gvnics, host, image, module, wheel
from vm.config import Config, Share
from vm.errors import InvalidRequest, VmError
from vm.guest import Guest
from vm.kernel import Kernel

CLIENT = "socat"
LOOK_S = 0.5
PATIENCE_S = 300.0
"""For each command; an emulated guest on a busy machine is slow."""


class DemoFailed(VmError):
    """The demo ran and did not show what it should."""

    exit_code = 1


class Server(Protocol):
    """A running ``zcrx-echo``."""

    port: int

    def figures(self) -> dict[str, Any]:
        """Its JSON, once it has ended."""


class Card:
    """No NIC (NODEV): the kernel copies, over loopback."""

    name = "NODEV"
    note = """NODEV: without a NIC the kernel copies each byte once into the area;
               all else is io_uring zcrx as with a NIC"""
    server = "127.0.0.1"
    options: Sequence[str] = ("--nodev",)
    client_prefix: Sequence[str] = ()
    gve = False
    """Whether the guest has modelled gVNICs."""

    def shares(self) -> tuple[Share, ...]:
        """What the guest must see of this machine."""
        return ()

    def set_up(self, run: Callable[[Sequence[str]], str]) -> None:
        """Make it ready; *run* runs a command where it is."""

    def zero_copied(self, figures: dict[str, Any], run: Callable[[Sequence[str]], str]) -> float:
        """The share of the payload that the CPU did not copy, and who says so."""
        del run
        return float(figures["bytes_zero_copy"] / figures["bytes"])


class Sim(Card):
    """The simulated NIC: its peer, and the client, in a namespace of their own."""

    name = "zcrxsim, queue 1"
    note = "by the simulated NIC's own counters"
    server = "192.0.2.1"
    options = ("-i", "zcrx0", "-q", "1")
    client_prefix = ("ip", "netns", "exec", "peer")
    mtu = "9000"

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel

    def shares(self) -> tuple[Share, ...]:
        return (Share.of(module.for_guest(self._kernel), module.GUEST_FOLDER),)

    def set_up(self, run: Callable[[Sequence[str]], str]) -> None:
        run([f"{module.GUEST_FOLDER}/setup"])
        run(["ip", "link", "set", "zcrx0", "mtu", self.mtu])
        run(["ip", "-n", "peer", "link", "set", "zcrx1", "mtu", self.mtu])

    def zero_copied(self, figures: dict[str, Any], run: Callable[[Sequence[str]], str]) -> float:
        del figures
        books = dict(
            line.strip().split(": ") for line in run(["ethtool", "-S", "zcrx0"]).splitlines()[1:]
        )
        placed = [int(books[f"rx1_{kind}_bytes"]) for kind in ("zc", "page", "linear")]
        return placed[0] / sum(placed)


class Gve(Sim):
    """The kernel's own driver gve, on modelled NICs; zcrx-echo sets the NIC up itself."""

    name = "gve, queue 1 (the driver is real, the NIC is a model)"
    note = "by the model's own books"
    gve = True

    def shares(self) -> tuple[Share, ...]:
        return ()

    def set_up(self, run: Callable[[Sequence[str]], str]) -> None:
        run([f"{gvnics.GUEST_FOLDER}/setup"])

    def zero_copied(self, figures: dict[str, Any], run: Callable[[Sequence[str]], str]) -> float:
        """What lies in buffers of the area, its headers split off, and what does not."""
        del figures
        books = json.loads(run([f"{gvnics.GUEST_FOLDER}/ask.py", json.dumps({"nic": 0})]))
        placed = [books["queues"]["1"].get(f"{kind}_bytes", 0) for kind in ("split", "whole")]
        return float(placed[0] / sum(placed))


class Machine(Protocol):
    """Where the demo runs: a guest, or this machine."""

    def run(self, argv: Sequence[str]) -> str:
        """A command to its end; its stdout."""

    def echo(self, card: Card) -> AbstractContextManager[Server]:
        """``zcrx-echo --once`` while the context lasts."""


def _echo(card: Card) -> list[str]:
    return ["zcrx-echo", *card.options, "--once", "--json", "--port", "0"]


def _port(line: str, rest: Callable[[], str]) -> int:
    """Of what it says first; else *rest* is the remainder of its log."""
    if " port " not in line:
        lines = host.last_lines(line + rest()) or ["it said nothing"]
        raise DemoFailed(f"zcrx-echo did not start: {lines[-1]}", lines[:-1])
    return int(line.split(" port ")[1].split()[0])


class InGuest:
    """The demo's commands in a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def run(self, argv: Sequence[str]) -> str:
        done = self._guest.run(argv, timeout=PATIENCE_S)
        if done.returncode:
            raise DemoFailed(f"{argv[0]} failed in the guest: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    @contextmanager
    def echo(self, card: Card) -> Iterator[Server]:
        errors: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        process = self._guest.spawn(_echo(card), stderr=errors.put)
        said = b""
        while b"\n" not in said and not (process.over and errors.empty()):
            with contextlib.suppress(queue.Empty):
                said += errors.get(timeout=LOOK_S)

        def rest() -> str:
            process.wait(PATIENCE_S)
            return b"".join(errors.get() for _ in range(errors.qsize())).decode(errors="replace")

        class Running:
            port = _port(said.decode(errors="replace"), rest)

            def figures(self) -> dict[str, Any]:
                done = process.wait(PATIENCE_S)
                if done.returncode:
                    raise DemoFailed(f"zcrx-echo ended with status {done.returncode}")
                return dict(json.loads(done.stdout))

        yield Running()


class Native:
    """The demo's commands on this machine."""

    def run(self, argv: Sequence[str]) -> str:
        try:
            done = external.run(argv, capture_output=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{argv[0]} did not end within {PATIENCE_S:g} s") from None
        if done.returncode:
            raise DemoFailed(f"{argv[0]} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    @contextmanager
    def echo(self, card: Card) -> Iterator[Server]:
        with external.started(
            _echo(card), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            said = process.stderr.readline()

            class Running:
                port = _port(said, lambda: process.communicate(timeout=PATIENCE_S)[1])

                def figures(self) -> dict[str, Any]:
                    out, err = process.communicate(timeout=PATIENCE_S)
                    if process.returncode:
                        raise DemoFailed(f"zcrx-echo: status {process.returncode}: {err}")
                    return dict(json.loads(out))

            yield Running()


@dataclass
class Steps:
    """How long each step took."""

    taken: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str, *, shown: bool = True) -> Iterator[None]:
        """Time it, and show that it runs unless it shows that itself."""
        began = time.monotonic()
        with host.progress(what) if shown else nullcontext():
            yield
        self.taken.append((what, time.monotonic() - began))

    def text(self) -> str:
        return ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self.taken)


@dataclass(frozen=True)
class Outcome:
    """What the demo saw."""

    figures: dict[str, Any]
    seconds: float
    digest: str
    zero_copied: float


def run(size_bytes: int, *, native: bool, nodev: bool, gve: bool = False, steps: Steps) -> None:
    """The demo; raises where something is not as it should be."""
    if gve and (native or nodev):
        raise InvalidRequest("--gve is a NIC in a guest: it goes with neither --nodev nor --native")
    card = Gve() if gve else Card() if native or nodev else Sim()
    if native:
        where = f"this machine, Linux {os.uname().release}"
        with tempfile.TemporaryDirectory() as folder:
            outcome = stream(Native(), card, folder, size_bytes, steps)
    else:
        with ahead.begun(partial(wheel.obtain, "auto"), emulator.obtain) as wait:
            with steps.step("guest image", shown=False):
                image.obtain()
            with steps.step("what was made beside it", shown=False):
                wait()
        with steps.step("card", shown=False):
            shares = card.shares()
        with steps.step("boot"):
            guest = Guest(Config(shares=shares, gve=card.gve))
        with guest:
            accelerator = "KVM" if guest.kvm else "TCG emulation"
            where = f"QEMU guest ({accelerator}), Linux {guest.release}"
            outcome = stream(InGuest(guest), card, "/root", size_bytes, steps)
    _show(outcome, card, where)


def stream(machine: Machine, card: Card, folder: str, size_bytes: int, steps: Steps) -> Outcome:
    """Bytes there and back, compared."""
    sent, back = str(Path(folder) / "sent"), str(Path(folder) / "back")
    with steps.step("random data"):
        card.set_up(machine.run)
        machine.run(["sh", "-c", f"head -c {size_bytes} /dev/urandom > {sent}"])
    with steps.step("stream"), machine.echo(card) as server:
        began = time.monotonic()
        client = " ".join(
            [*card.client_prefix, CLIENT, "-t", "120", "STDIO", f"TCP:{card.server}:{server.port}"]
        )
        machine.run(["sh", "-c", f"{client} < {sent} > {back}"])
        seconds = time.monotonic() - began
        figures = server.figures()
    with steps.step("checksums"):
        digests = [line.split()[0] for line in machine.run(["sha256sum", sent, back]).splitlines()]
    if digests[0] != digests[1]:
        raise DemoFailed(f"what came back is not what was sent: {digests[1]}, not {digests[0]}")
    if figures["bytes"] != size_bytes:
        raise DemoFailed(f"zcrx-echo received {figures['bytes']} bytes, not {size_bytes}")
    return Outcome(figures, seconds, digests[0], card.zero_copied(figures, machine.run))


def _show(outcome: Outcome, card: Card, where: str) -> None:
    mib = outcome.figures["bytes"] / (1 << 20)
    click.echo(f"""
{mib:.0f} MiB from {CLIENT} through zcrx-echo and back: identical
  where        {where}
  NIC          {card.name}
  SHA-256      {outcome.digest}
  rate         {mib / outcome.seconds:.1f} MiB/s each way ({outcome.seconds:.2f} s, \
{outcome.figures["buffers"]} buffers)
  zero-copied  {100 * outcome.zero_copied:.1f}%
  copied       {100 * (1 - outcome.zero_copied):.1f}%
               ({card.note})""")

"""``scripts/demo``: a real client's bytes through zcrx and back, compared, in the guest.

With ``native`` the same without a guest, on a machine whose own kernel has NODEV.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from vm import host, image, wheel
from vm.config import Config
from vm.errors import VmError
from vm.guest import Guest

CLIENT = "socat"
PATIENCE_S = 300.0
"""For each command; an emulated guest on a busy machine is slow."""


class DemoFailed(VmError):
    """The demo ran and did not show what it should."""

    exit_code = 1


class Machine(Protocol):
    """Where the demo runs: a guest, or this machine."""

    def run(self, argv: Sequence[str]) -> str:
        """A command to its end; its stdout."""

    def echo(self) -> AbstractContextManager[Server]:
        """``zcrx-echo --once`` while the context lasts."""


class Server(Protocol):
    """A running ``zcrx-echo``."""

    port: int

    def figures(self) -> dict[str, Any]:
        """Its JSON, once it has ended."""


ECHO = ["zcrx-echo", "--nodev", "--once", "--json", "--port", "0"]


def _port(line: str) -> int:
    if " port " not in line:
        raise DemoFailed(f"zcrx-echo did not start: {line.strip()}")
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
    def echo(self) -> Iterator[Server]:
        errors: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        process = self._guest.spawn(ECHO, stderr=errors.put)
        said = b""
        while b"\n" not in said:
            said += errors.get(timeout=PATIENCE_S)

        class Running:
            port = _port(said.decode())

            def figures(self) -> dict[str, Any]:
                done = process.wait(PATIENCE_S)
                if done.returncode:
                    raise DemoFailed(f"zcrx-echo ended with status {done.returncode}")
                return dict(json.loads(done.stdout))

        yield Running()


class Native:
    """The demo's commands on this machine."""

    def run(self, argv: Sequence[str]) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode:
            raise DemoFailed(f"{argv[0]} failed: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def echo(self) -> Iterator[Server]:
        with subprocess.Popen(
            ECHO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            said = process.stderr.readline()

            class Running:
                port = _port(said)

                def figures(self) -> dict[str, Any]:
                    out, err = process.communicate(timeout=PATIENCE_S)
                    if process.returncode:
                        raise DemoFailed(f"zcrx-echo: status {process.returncode}: {err}")
                    return dict(json.loads(out))

            try:
                yield Running()
            finally:
                process.kill()


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


def run(size_bytes: int, *, native: bool, steps: Steps) -> None:
    """The demo; raises where something is not as it should be."""
    if native:
        where = f"this machine, Linux {os.uname().release}"
        with tempfile.TemporaryDirectory() as folder:
            figures, seconds, digest = _stream(Native(), folder, size_bytes, steps)
    else:
        with steps.step("wheel", shown=False):
            wheel.obtain("auto")
        with steps.step("guest image", shown=False):
            image.obtain()
        with steps.step("boot"):
            guest = Guest(Config())
        with guest:
            accelerator = "KVM" if guest.kvm else "TCG emulation"
            where = f"QEMU guest ({accelerator}), Linux {guest.release}"
            figures, seconds, digest = _stream(InGuest(guest), "/root", size_bytes, steps)
    _show(figures, seconds, digest, where)


def _stream(
    machine: Machine, folder: str, size_bytes: int, steps: Steps
) -> tuple[dict[str, Any], float, str]:
    """Bytes there and back; gives zcrx-echo's figures, the stream's seconds, its SHA-256."""
    sent, back = str(Path(folder) / "sent"), str(Path(folder) / "back")
    with steps.step("random data"):
        machine.run(["sh", "-c", f"head -c {size_bytes} /dev/urandom > {sent}"])
    with steps.step("stream"), machine.echo() as server:
        began = time.monotonic()
        client = f"{CLIENT} -t 120 STDIO TCP:127.0.0.1:{server.port}"
        machine.run(["sh", "-c", f"{client} < {sent} > {back}"])
        seconds = time.monotonic() - began
        figures = server.figures()
    with steps.step("checksums"):
        digests = [line.split()[0] for line in machine.run(["sha256sum", sent, back]).splitlines()]
    if digests[0] != digests[1]:
        raise DemoFailed(f"what came back is not what was sent: {digests[1]}, not {digests[0]}")
    if figures["bytes"] != size_bytes:
        raise DemoFailed(f"zcrx-echo received {figures['bytes']} bytes, not {size_bytes}")
    return figures, seconds, digests[0]


def _show(figures: dict[str, Any], seconds: float, digest: str, where: str) -> None:
    size = figures["bytes"]
    mib = size / (1 << 20)
    zero_copy, copied = (
        "unknown" if part is None else f"{100 * part / size:.1f}%"
        for part in (figures["bytes_zero_copy"], figures["bytes_copied"])
    )
    click.echo(f"""
{mib:.0f} MiB from {CLIENT} through zcrx-echo and back: identical
  where        {where}
  SHA-256      {digest}
  rate         {mib / seconds:.1f} MiB/s each way ({seconds:.2f} s, {figures["buffers"]} buffers)
  zero-copied  {zero_copy}
  copied       {copied}
               (NODEV: without a card the kernel copies each byte once into the area;
               all else is io_uring zcrx as with a card)""")

"""Receivers side by side in one guest, interleaved: what Python costs beside C.

Figures of an emulated guest say little alone; the ratios within one run are meant.
"""

from __future__ import annotations

import json
import queue
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vm import host, wheel
from vm.config import Config, Share
from vm.errors import VmError
from vm.guest import Guest

ROOT = Path(__file__).parent.parent
PORT = 9999
PATIENCE_S = 300.0
RECV_INTO = f"""
import json, resource, socket, sys, time
listener = socket.create_server(("", {PORT}))
print("listening", file=sys.stderr, flush=True)
sock, _ = listener.accept()
began, buffer, n, buffers = time.monotonic(), bytearray(1 << 20), 0, 0
before = resource.getrusage(resource.RUSAGE_SELF)
while got := sock.recv_into(buffer):
    n += got
    buffers += 1
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(bytes=n, buffers=buffers, seconds=time.monotonic() - began,
    user=after.ru_utime - before.ru_utime, system=after.ru_stime - before.ru_stime)))
"""
PYZCRX = f"""
import json, resource, socket, sys, time, pyzcrx
events = sys.argv[1] == "buffers"
listener = socket.create_server(("", {PORT}))
with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(64 << 20) as area:
    ifq = ring.register_ifq(area)
    print("listening", file=sys.stderr, flush=True)
    sock, _ = listener.accept()
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF)
    ifq.receive(sock)
    if events:
        for event in ring.events():
            if isinstance(event, pyzcrx.Data):
                event.buffer.release()
    else:
        for batch in ring.batches():
            batch.release()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(dict(bytes=ifq.stats().bytes, buffers=ifq.stats().buffers,
        seconds=time.monotonic() - began, user=after.ru_utime - before.ru_utime,
        system=after.ru_stime - before.ru_stime)))
"""
RECEIVERS: dict[str, Sequence[str]] = {
    "C, liburing": ["/bench/zcrx-c-receiver", str(PORT)],
    "pyzcrx batches": ["python3", "-c", PYZCRX, "batches"],
    "pyzcrx buffers": ["python3", "-c", PYZCRX, "buffers"],
    "recv_into 1 MiB": ["python3", "-c", RECV_INTO],
}


@dataclass(frozen=True)
class Figure:
    """One receiver's run."""

    mib_per_s: float
    cpu_s_per_gib: float
    buffers: int

    @classmethod
    def of(cls, told: dict[str, Any]) -> Figure:
        mib = told["bytes"] / (1 << 20)
        cpu = told["user"] + told["system"]
        return cls(mib / told["seconds"], cpu / mib * 1024, told["buffers"])


def build_receiver(folder: Path) -> None:
    """The C receiver, against the liburing that pyzcrx is built with."""
    environment = {"PKG_CONFIG_PATH": wheel.liburing()}
    build = folder / "build"
    host.run(
        ["cmake", "-G", "Ninja", "-S", ROOT / "csrc", "-B", build, "-DPYZCRX_BENCH=ON",
         "--log-level=WARNING", "-DCMAKE_BUILD_TYPE=Release"],
        what="configuring the C receiver", env=environment,
    )  # fmt: skip
    host.run(
        ["cmake", "--build", build, "--target", "zcrx-c-receiver"], what="building the C receiver"
    )
    (build / "zcrx-c-receiver").rename(folder / "zcrx-c-receiver")


def measure(guest: Guest, receiver: Sequence[str], mib: int) -> Figure:
    """One run: the sender is the same for all."""
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    process = guest.spawn(receiver, stderr=said.put)
    first = said.get(timeout=PATIENCE_S)
    if b"listening" not in first:
        raise VmError(f"a receiver did not start: {first.decode().strip()}")
    send = f"head -c {mib << 20} /dev/zero | nc -N 127.0.0.1 {PORT}"
    sent = guest.run(["sh", "-c", send], timeout=PATIENCE_S)
    done = process.wait(PATIENCE_S)
    if sent.returncode or done.returncode:
        raise VmError(f"{receiver[0]} ended with status {done.returncode}")
    told = json.loads(done.stdout)
    if told["bytes"] != mib << 20:
        raise VmError(f"{receiver[0]} received {told['bytes']} bytes, not {mib << 20}")
    return Figure.of(told)


def run(rounds: int, mib: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        with host.progress("building the C receiver"):
            build_receiver(Path(folder))
        shares = (Share(Path(folder), "/bench"),)
        figures: dict[str, list[Figure]] = {name: [] for name in RECEIVERS}
        with Guest(Config(shares=shares)) as guest:
            release = guest.release
            how = "KVM" if guest.kvm else "TCG"
            for _ in range(rounds):
                for name, receiver in RECEIVERS.items():
                    figures[name].append(measure(guest, receiver, mib))
    click.echo(f"Linux {release}, {how}, NODEV, loopback, {rounds} rounds of {mib} MiB, medians\n")
    click.echo("receiver           MiB/s  (least-most)   of C   CPU s/GiB   of C   chunks")
    reference = figures["C, liburing"]
    for name, runs in figures.items():
        rates = [figure.mib_per_s for figure in runs]
        cpu = statistics.median(figure.cpu_s_per_gib for figure in runs)
        rate_ratio = statistics.median(
            a.mib_per_s / b.mib_per_s for a, b in zip(runs, reference, strict=True)
        )
        cpu_ratio = statistics.median(
            a.cpu_s_per_gib / b.cpu_s_per_gib for a, b in zip(runs, reference, strict=True)
        )
        click.echo(
            f"{name:16} {statistics.median(rates):7.1f}  ({min(rates):.0f}-{max(rates):.0f})"
            f"{'':4} {rate_ratio:5.2f} {cpu:11.2f}  {cpu_ratio:5.2f} {runs[-1].buffers:8}"
        )

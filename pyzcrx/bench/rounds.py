"""Runs: a receiver, a process for each queue, and a sender; rounds of them, interleaved."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyzcrx.bench import card
from pyzcrx.bench.bandwidth import Traffic
from pyzcrx.bench.begin import begin
from pyzcrx.bench.figures import added_up
from pyzcrx.bench.iperf3_sender import IPERF3, Iperf3Sender
from pyzcrx.bench.job import ReceiveJob, SendJob
from pyzcrx.bench.meter import cpu_times
from pyzcrx.bench.pinning import Pinning
from pyzcrx.bench.plan import BenchError, Plan, SenderFailed
from pyzcrx.bench.receivers.catalogue import (
    EXAMPLES,
    C,
    echoes,
    gathers,
    missing,
    relays,
    takes_short,
)

TIMEOUT_S = 300.0


def unavailable(plan: Plan) -> dict[str, str]:
    """Which of the plan's receivers cannot run here, and why."""
    found = {}
    for name in plan.receivers:
        why = missing(name)
        if name in C and not plan.c_receiver:
            why = "no zcrx-c-receiver (cmake -DPYZCRX_BENCH=ON csrc; --c-receiver)"
        if name in EXAMPLES:
            why = _no_example(plan, name)
        if plan.short and not takes_short(name):
            why = "it takes no connections that come and go"
        if echoes(name) and plan.how == IPERF3:
            why = "iperf3 does not read what comes back"
        if relays(name) and plan.echo_rounds:
            why = "a round trip takes one connection, and a relay two"
        if why:
            found[name] = why
    return found


def _example(plan: Plan, name: str) -> str | None:
    """The program: all lie in one folder."""
    if not plan.example or not gathers(name):
        return plan.example
    return shutil.which(str(Path(plan.example).absolute().with_name(EXAMPLES[name])))


def _no_example(plan: Plan, name: str) -> str:
    if not plan.example:
        return "liburing's examples/zcrx.c is not installed (zcrx in PATH; --example)"
    if not _example(plan, name):
        return f"there is no {EXAMPLES[name]} beside {plan.example}"
    if plan.interface is None:
        return "liburing's example needs a NIC"
    if plan.connections != 1 or plan.rx_buf_len or plan.read or plan.how == IPERF3:
        return "liburing's example takes one connection of our sender's, in pages, unread"
    return ""


class Rounds:
    """The runs of a plan."""

    def __init__(self, plan: Plan, pinning: Pinning, traffic: Traffic | None = None) -> None:
        self._plan = plan
        self._traffic = traffic
        self._pinning = pinning
        self._mark = 1 if plan.marks else 0

    def runs(self, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every receiver once a round; (receiver, figures) as they come."""
        for _ in range(self._plan.rounds):
            for name in names:
                yield name, self.run(name)

    def run(self, name: str) -> dict[str, Any]:
        """One run of one receiver; raises BenchError if anything is not as it should be."""
        mark = self._next_mark()
        plan = self._plan
        before, books = cpu_times(Path("/proc/stat").read_text()), card.books(plan)
        moved = self._traffic.bytes() if self._traffic else 0.0
        told, sent = self._exchange(name, len(plan.queues), mark=mark, echo=False)
        figures = added_up(told)
        if self._traffic:
            figures["memory_bytes"] = self._traffic.bytes() - moved
        after, books_after = cpu_times(Path("/proc/stat").read_text()), card.books(plan)
        wanted = sent.get("bytes", plan.size_bytes)
        # iperf3 does not count a block that the end cut off.
        if figures["bytes"] < wanted or (plan.how != IPERF3 and figures["bytes"] > wanted):
            raise BenchError(f"{name} received {figures['bytes']} of {wanted} bytes")
        of = {"receiver": {*self._pinning.receivers}, "napi": {self._pinning.napi}}
        for who, cpus in of.items():
            spent = [
                after[cpu]["softirq"] - before[cpu]["softirq"]
                for cpu in map(str, cpus)
                if cpu in after
            ]
            if spent:
                figures[f"softirq_of_{who}_s"] = round(sum(spent), 6)
        figures["copied"] = card.copied(plan, name, figures, books, books_after)
        return {"mark": mark, **figures}

    def echo(self, name: str) -> tuple[list[int], dict[str, Any]]:
        """Round trips on one connection, so on the first queue, in ns; what the receiver told."""
        mark = self._next_mark()
        [told], sent = self._exchange(name, 1, mark=mark, echo=True)
        took: list[int] = sent["round_trips_ns"]
        return took, {"mark": mark, **told}

    def _next_mark(self) -> int:
        mark = self._mark
        if mark:
            self._mark += 1
        return mark

    def _exchange(
        self, name: str, processes: int, *, mark: int, echo: bool
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What the receiver's processes told, and what the sender."""
        receivers: list[subprocess.Popen[str]] = []
        failed = None
        try:
            try:
                if self._plan.how == IPERF3 and not echo:
                    sent = self._sent_by_iperf3(name, receivers, mark)
                else:
                    sent = self._sent_by_us(name, receivers, processes, mark, echo=echo)
            except SenderFailed as error:
                failed = error
                for receiver in receivers:
                    receiver.kill()
            said = [receiver.communicate(timeout=TIMEOUT_S) for receiver in receivers]
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{name}: no end after {error.timeout:.0f} s") from None
        finally:
            for receiver in receivers:
                receiver.kill()
            for receiver in receivers:
                with receiver:  # waits, and closes its pipes
                    pass
        if failed:
            errors = " ".join(err.strip() for _, err in said if err.strip())
            raise BenchError(f"{name}: {failed} {errors}".rstrip())
        for receiver, (_, err) in zip(receivers, said, strict=True):
            if receiver.returncode:
                raise BenchError(err.strip() or f"{name} ended with status {receiver.returncode}")
        return [json.loads(out) for out, _ in said], sent

    def _sent_by_us(
        self,
        name: str,
        receivers: list[subprocess.Popen[str]],
        processes: int,
        mark: int,
        *,
        echo: bool,
    ) -> dict[str, Any]:
        """What our sender told, having sent to *receivers*, which begin here."""
        for i in range(processes):
            argv = self._receiver(name, i, mark, echo=echo)
            begin(receivers, argv, self._pinning.receivers[i])
        said = [_said(name, receiver, "listening on ") for receiver in receivers]
        argv = self._sender(name, [int(line.split()[-1]) for line in said], echo=echo)
        sender: list[subprocess.Popen[str]] = []
        try:
            begin(sender, argv, self._pinning.sender)
            out, err = sender[0].communicate(timeout=TIMEOUT_S)
        finally:
            for process in sender:
                process.kill()
                process.wait()
        if sender[0].returncode:
            raise SenderFailed(err.strip() or "the sender failed")
        told: dict[str, Any] = json.loads(out)
        return told

    def _sent_by_iperf3(
        self, name: str, receivers: list[subprocess.Popen[str]], mark: int
    ) -> dict[str, Any]:
        card.wait_free(self._plan)
        with Iperf3Sender(self._plan, self._pinning.sender) as sender:
            fds = tuple(sender.streams())
            argv = self._receiver(name, 0, mark, echo=False, fds=fds)
            begin(receivers, argv, self._pinning.receivers[0], fds=fds)
            _said(name, receivers[0], "ready")
            return {"bytes": sender.run()}

    def _receiver(
        self, name: str, number: int, mark: int, *, echo: bool, fds: tuple[int, ...] = ()
    ) -> list[str]:
        plan = self._plan
        queue, port = plan.queues[number], plan.ports[number]
        connections = 1 if echo else plan.connections
        if relays(name):
            connections *= 2
        if name not in C:
            job = ReceiveJob(
                name,
                plan.host,
                port,
                connections=connections,
                interface=plan.interface,
                queue=queue,
                rx_buf_len=plan.rx_buf_len,
                area_bytes=plan.area_bytes,
                gather_us=plan.gather_us,
                read=plan.read,
                echo=echo,
                short=0 if echo else plan.short,
                fds=[*fds],
                mark=mark,
                program=_example(plan, name) if name in EXAMPLES else None,
            )
            return [sys.executable, "-P", "-m", plan.marks or "pyzcrx.bench.receive", job.to_json()]
        assert plan.c_receiver
        argv = [plan.c_receiver, "-p", str(port), "-a", plan.host, "-c", str(connections)]
        argv += ["-A", str(plan.area_bytes), "-m", str(mark)]
        argv += ["-g", str(plan.gather_us)] if gathers(name) else []
        if plan.interface:
            argv += ["-i", plan.interface, "-q", str(queue), "-l", str(plan.rx_buf_len)]
        for fd in fds:
            argv += ["-F", str(fd)]
        argv += ["-s", str(plan.short)] if plan.short and not echo else []
        return [*argv, *(["-r"] if plan.read else []), *(["-e"] if echo else [])]

    def _sender(self, name: str, ports: list[int], *, echo: bool) -> list[str]:
        plan = self._plan
        job = SendJob(
            plan.connect_to,
            ports,
            connections=1 if echo else plan.connections,
            size_bytes=plan.size_bytes,
            how=plan.how,
            back=echoes(name),
            relay=relays(name),
            check=plan.read,
            short=0 if echo else plan.short,
            echo_rounds=plan.echo_rounds if echo else 0,
            echo_bytes=plan.echo_bytes,
        )
        prefix = ["ip", "netns", "exec", plan.netns] if plan.netns else []
        return [*prefix, sys.executable, "-P", "-m", "pyzcrx.bench.send", job.to_json()]


def _said(name: str, receiver: subprocess.Popen[str], what: str) -> str:
    """The line that begins with *what*, once the receiver says it."""
    assert receiver.stderr is not None
    said = []
    for line in receiver.stderr:
        if line.startswith(what):
            return line
        said.append(line.strip())
    raise BenchError(" ".join(said) or f"{name} did not start")

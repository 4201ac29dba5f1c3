"""``zcrx-bench``: receivers compared in one run."""

from __future__ import annotations

import platform
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

import pyzcrx
from pyzcrx._ring.core import MAX_GATHER_US
from pyzcrx._ring.pace import MOST_US
from pyzcrx.bench import plot, table
from pyzcrx.bench.bandwidth import Traffic, counted
from pyzcrx.bench.card import freed
from pyzcrx.bench.figures import Report, Run
from pyzcrx.bench.iperf3 import MAX_STREAMS
from pyzcrx.bench.iperf3_sender import IPERF3
from pyzcrx.bench.iperf3_server import TIMEOUT_S
from pyzcrx.bench.job import SHORT_BYTES
from pyzcrx.bench.pinning import Pinning, interfaces_in
from pyzcrx.bench.plan import BenchError, Plan, setup
from pyzcrx.bench.ports import Ports
from pyzcrx.bench.receivers.catalogue import ALL, COMPARED, EXAMPLES, RECEIVERS, C, gathers
from pyzcrx.bench.rounds import Rounds, unavailable
from pyzcrx.cli.card import CardOptions, card_options, interruptible
from pyzcrx.cli.common import Group
from pyzcrx.cli.exchange import check_exchange, exchange_options
from pyzcrx.cli.serve_iperf3 import serve
from pyzcrx.cli.streams import check_output
from pyzcrx.cli.values import (
    BUFFER_SIZE,
    CPU,
    HOST,
    MODULE,
    PORT,
    SECONDS,
    SIZE,
    NetNs,
    Number,
    OutputFile,
    ReportFile,
)

ABOUT = C | {name: r.about for name, r in RECEIVERS.items()}
EPILOG = "\b\nReceivers:\n" + "\n".join(f"  {name:15} {about}" for name, about in ABOUT.items())


@click.group(
    "zcrx-bench",
    cls=Group,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@card_options
@click.option(
    "--queues",
    default=1,
    show_default=True,
    type=Number(1, 1024),
    help="Each receiver is so many processes, one for each of so many queues.",
)
@click.option(
    "--host",
    type=HOST,
    help="Address that receivers listen on and the sender connects to."
    "  [default: the NIC's first, or 127.0.0.1; with --serve-iperf3 all]",
)
@click.option(
    "--sender-netns",
    "netns",
    type=NetNs(),
    metavar="NAME",
    help="The sender's network namespace.  [default: ours]",
)
@click.option(
    "-r",
    "--receiver",
    "receivers",
    multiple=True,
    type=click.Choice(ALL),
    help="May be given several times; the first is the reference.  [default: all but echoes]",
)
@click.option("--rounds", default=5, show_default=True, type=Number(1, 1000))
@click.option(
    "--rx-buf-len",
    type=BUFFER_SIZE,
    default=None,
    help="Bytes of a zcrx buffer, where the NIC can choose."
    "  [default: a page; with --serve-iperf3 what pays]",
)
@click.option(
    "--area",
    "area_bytes",
    default="64M",
    show_default=True,
    type=SIZE,
    help="Memory of a zcrx receiver, for each queue.",
)
@click.option(
    "--gather-us",
    default=MOST_US,
    show_default=True,
    type=Number(0, MAX_GATHER_US),
    help="How long a turn of pyzcrx may gather while much arrives; c-gather always does.",
)
@exchange_options
@click.option("--read", is_flag=True, help="Receivers read every byte.")
@click.option(
    "--c-receiver",
    type=click.Path(exists=True, dir_okay=False, executable=True),
    help="The receiver in C (csrc/bench).  [default: zcrx-c-receiver in PATH]",
)
@click.option(
    "--example",
    type=click.Path(exists=True, dir_okay=False, executable=True),
    help="liburing's examples/zcrx.c, built.  [default: zcrx in PATH]",
)
@click.option(
    "--receiver-cpu",
    type=CPU,
    help="[default: the last; further queues take those before]",
)
@click.option("--sender-cpu", type=CPU, help="[default: the first]")
@click.option(
    "--napi-cpu",
    type=CPU,
    help="For the NIC's interrupts.  [default: the second, if there are three]",
)
@click.option(
    "--marks",
    type=MODULE,
    hidden=True,
    help="The module by which receivers mark their runs for an emulator that counts instructions.",
)
@click.option(
    "--serve-iperf3",
    is_flag=True,
    help="No comparison: be an iperf3 server that receives by zcrx, until SIGINT.",
)
@click.option(
    "-p",
    "--port",
    default=5201,
    show_default=True,
    type=PORT,
    help="With --serve-iperf3: where to listen; 0: any free port.",
)
@click.option("--once", is_flag=True, help="With --serve-iperf3: end after one test.")
@click.option(
    "--timeout",
    "timeout_s",
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    type=SECONDS,
    help="With --serve-iperf3: for what a client should say or send next.",
)
@click.option(
    "--memory-bandwidth",
    is_flag=True,
    help="Traffic between caches and memory too, where this machine counts it.",
)
@click.option(
    "--plot",
    "picture",
    type=OutputFile(".png"),
    metavar="FILE.png",
    help="Draw it, too (matplotlib: pip install pyzcrx[bench]).",
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output.")
@click.version_option(pyzcrx.__version__, prog_name="zcrx-bench")
def main(
    card: CardOptions,
    queues: int,
    host: str | None,
    netns: str | None,
    receivers: tuple[str, ...],
    rounds: int,
    size_bytes: int,
    connections: int,
    rx_buf_len: int | None,
    area_bytes: int,
    gather_us: int,
    how: str,
    read: bool,
    short: int,
    echo_rounds: int,
    echo_bytes: int,
    c_receiver: str | None,
    example: str | None,
    receiver_cpu: int | None,
    sender_cpu: int | None,
    napi_cpu: int | None,
    marks: str | None,
    serve_iperf3: bool,
    port: int,
    once: bool,
    timeout_s: float,
    memory_bandwidth: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Receive the same bytes in several ways, in turns, and compare the costs.

    Each receiver is a process of its own, pinned to its CPU; the sender is one more. A
    NIC (-i) is set up for it once and put back at the end; without one everything goes
    over loopback, zcrx by NODEV. Status 1 and one line for an error, 1 when interrupted,
    2 for a wrong command line.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    card.check()
    if serve_iperf3:
        if queues != 1:
            raise click.UsageError("--serve-iperf3 receives on one queue, leave --queues out")
        serve(
            host,
            port,
            card,
            rx_buf_len,
            area_bytes,
            timeout_s=timeout_s,
            once=once,
            as_json=as_json,
        )
        return
    check_exchange(short, queues, how, read=read)
    if marks and queues != 1:
        raise click.UsageError("--marks numbers runs of one process, leave --queues out")
    if how == IPERF3 and (queues != 1 or connections > MAX_STREAMS):
        raise click.UsageError(f"iperf3 sends to one port, by at most {MAX_STREAMS} connections")
    if how == IPERF3 and not shutil.which(IPERF3):
        raise BenchError("iperf3 is not installed (apt-get install iperf3)")
    if picture:
        plot.pyplot()
    check_output()
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        found: list[Report] = []
        # After all else, and also after an error: what was measured is never lost.
        stack.callback(_publish, found, rounds, picture, as_json=as_json)
        host = host or card.address() or "127.0.0.1"
        plan = Plan(
            receivers=receivers or COMPARED,
            rounds=rounds,
            size_bytes=short * SHORT_BYTES or size_bytes,
            connections=connections,
            interface=card.interface,
            queues=tuple(range(queues)),
            rx_buf_len=rx_buf_len or 0,
            area_bytes=area_bytes,
            gather_us=gather_us,
            host=host,
            netns=netns,
            how=how,
            read=read,
            short=short,
            echo_rounds=echo_rounds,
            echo_bytes=echo_bytes,
            c_receiver=c_receiver or shutil.which("zcrx-c-receiver"),
            example=example or shutil.which("zcrx"),
            marks=marks or "",
        )
        pinning = Pinning.choose(receiver_cpu, sender_cpu, napi_cpu, queues)
        if card.interface and not netns:
            pinning.problems.append(
                f"without --sender-netns nothing may come over {card.interface}: what a machine "
                "sends to itself goes over loopback"
            )
        traffic = None
        if memory_bandwidth:
            traffic, why = stack.enter_context(counted())
            if why:
                pinning.problems.append(why)
        names = _runnable(plan, pinning)
        # After the NIC: a queue that restarts gets the interrupt's CPUs of before.
        stack.callback(pinning.restore)
        ports = stack.enter_context(Ports(host, queues))
        plan = replace(
            plan,
            host=ports.host,
            ports=ports.numbers,
            queues=card.for_ports(ports.host, ports.numbers, stack, area_bytes=area_bytes),
        )
        # A killed receiver's queue restarts a moment later, and the NIC may not be ours to set.
        stack.enter_context(freed(plan))
        _measure(plan, names, pinning, traffic, found)


def _runnable(plan: Plan, pinning: Pinning) -> list[str]:
    """The receivers that can run here; why others cannot is among the problems."""
    reasons = unavailable(plan)
    left_out = [f"{name}: {why}" for name, why in reasons.items()]
    names = [name for name in plan.receivers if name not in reasons]
    if not names:
        raise BenchError("; ".join(left_out))
    pinning.problems += left_out
    return names


def _publish(found: list[Report], rounds: int, picture: Path | None, *, as_json: bool) -> None:
    """The report, if a round of it was finished; then the picture."""
    for report in found:
        if not report.rounds:
            continue
        if report.rounds < rounds:
            report.problems.append(f"ended after {report.rounds} of {rounds} rounds")
        try:
            click.echo(report.to_json() if as_json else table.table(report))
        finally:
            if picture:
                plot.draw([report], picture)


def _measure(
    plan: Plan,
    names: list[str],
    pinning: Pinning,
    traffic: Traffic | None,
    found: list[Report],
) -> None:
    """Adds a report to *found*, which grows by whole rounds."""
    interfaces = [plan.interface] if plan.interface else []
    if plan.netns:
        interfaces += interfaces_in(plan.netns)
    pinning.pin_interrupts(interfaces)
    report = Report(
        setup(plan, pinning),
        {"pyzcrx": pyzcrx.__version__, "python": platform.python_version()},
        pinning.problems,
    )
    found.append(report)
    rounds = Rounds(plan, pinning, traffic)
    with click.progressbar(
        length=plan.rounds * len(names), label="zcrx-bench", file=sys.stderr
    ) as progress:
        of_round: dict[str, Run] = {}
        for name, figures in rounds.runs(names):
            of_round[name] = figures
            progress.update(1)
            if len(of_round) == len(names):
                report.add_round(of_round)
                of_round = {}
    if plan.echo_rounds:
        for name in names:
            if name not in EXAMPLES and not gathers(name):
                report.echo_ns[name], report.echo_runs[name] = rounds.echo(name)


@main.command()
@click.argument("before", type=ReportFile())
@click.argument("after", type=ReportFile())
def compare(before: Path, after: Path) -> None:
    """Two reports of --json side by side; refused where their set-ups differ."""
    click.echo(table.comparison(Report.read(before), Report.read(after)))


@main.command("plot")
@click.argument("picture", type=OutputFile(".png"), metavar="FILE.png")
@click.argument("reports", type=ReportFile(), nargs=-1, required=True)
def plot_reports(picture: Path, reports: tuple[Path, ...]) -> None:
    """Reports of --json that differ in connections, buffers or queues, as one picture."""
    plot.draw([Report.read(path) for path in reports], picture)


if __name__ == "__main__":
    main()

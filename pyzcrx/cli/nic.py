"""``zcrx-nic``: a NIC shown, set up for zcrx, put back."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict

import click

import pyzcrx
from pyzcrx.cli.common import Group
from pyzcrx.cli.values import INTERFACE, MOST_U32, QUEUE, Number, Text
from pyzcrx.errors import BadArgument
from pyzcrx.nic import irq, sockets
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.plan import Plan, Wanted, listening_flows, plan
from pyzcrx.nic.read import read
from pyzcrx.nic.restore import restore as restore_cards
from pyzcrx.nic.settings import NAPI_FIELDS, napi_setting, on_off, spread
from pyzcrx.nic.setup import Setup
from pyzcrx.nic.state import Queue, Rss, Rule, State
from pyzcrx.nic.steps import kind_of

PROGRAM = "zcrx-nic"


@click.group("zcrx-nic", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pyzcrx.__version__, prog_name=PROGRAM)
def main() -> None:
    """Show a NIC's settings for zcrx, set it up, put it back.

    Status 0: done; 1: an error, in one line; 2: a wrong command line.
    """


AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")


@main.command()
@click.argument("interface", type=INTERFACE)
@AS_JSON
def show(interface: str, as_json: bool) -> None:
    """Everything of INTERFACE that zcrx depends on. Changes nothing, needs no privilege."""
    state = read(interface)
    click.echo(state.to_json(indent=2) if as_json else "\n".join(_lines(state)))


def _cpus(text: str) -> str:
    return irq.format_cpus(irq.parse_cpus(text))


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and os.path.isdir(f"/proc/{text}/fd")):
        raise BadArgument(f"there is no process {text!r}")
    return int(text)


@main.command()
@click.argument("interface", type=INTERFACE)
@click.option(
    "-f",
    "--flow",
    "flows",
    type=Text("flow", Flow.parse, as_usage=False),
    multiple=True,
    metavar="FLOW",
    help="Steer this to the queue, such as 'tcp4 dst 192.0.2.1:9999'; repeatable.",
)
@click.option(
    "-p",
    "--port",
    type=Number(1, 65535),
    help="Steer this TCP port, at each of the interface's addresses.",
)
@click.option("-q", "--queue", type=QUEUE, help="The rx queue.  [default: the last that is free]")
@click.option(
    "--queues",
    type=Number(1, 1024),
    default=1,
    show_default=True,
    help="Share the flows among that many queues.",
)
@click.option("--rx-ring", type=Number(1, MOST_U32), help="Entries of the rx rings.")
@click.option(
    "--irq-cpus",
    type=Text("cpus", _cpus, as_usage=False),
    metavar="CPUS",
    help="Where the queues' interrupts go, such as 2,3.",
)
@click.option(
    "--napi",
    "napi",
    type=Text("setting", napi_setting),
    multiple=True,
    metavar="NAME=VALUE",
    help=f"A setting of the queues' NAPI instances: {', '.join(NAPI_FIELDS)}.",
)
@click.option(
    "--pid",
    "pids",
    multiple=True,
    type=Text("pid", _pid),
    help="The program that the flows are for, if it listens already.",
)
@click.option("--force", is_flag=True, help="Accept flows that catch the data of other sockets.")
@click.option(
    "-n", "--dry-run", is_flag=True, help="Change nothing; print the equivalent ethtool commands."
)
@AS_JSON
def setup(
    interface: str,
    flows: tuple[Flow, ...],
    port: int | None,
    queue: int | None,
    queues: int,
    rx_ring: int | None,
    irq_cpus: str | None,
    napi: tuple[tuple[str, int], ...],
    pids: tuple[int, ...],
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set INTERFACE up for zcrx, until 'zcrx-nic restore'.

    Header split on, hds-thresh 0, RSS kept off the queue, a rule for each flow.
    Programs that use pyzcrx.nic, as zcrx-echo does, need none of this.
    """
    wanted = Wanted(
        (*flows, *(listening_flows(read(interface), port) if port else ())),
        queue,
        queues,
        rx_ring,
        irq_cpus,
        dict(napi),
        force,
    )
    own = sockets.inodes_of(("self", *pids))
    if dry_run:
        irq.check_cpus(irq_cpus)
        made = plan(read(interface), wanted, sockets.read(), own)
        for text in made.warnings:
            warnings.warn(text, stacklevel=1)
    else:
        with Setup(interface, wanted, own=own, keep=True) as card:
            made = card.plan
    if as_json:
        click.echo(json.dumps(_plain(made), indent=2))
    elif dry_run:
        click.echo("\n".join(made.commands()))
    else:
        names = ", ".join(map(str, made.queues))
        click.echo(f"{made.interface}: queue {names}; undo: {PROGRAM} restore {made.interface}")


@main.command()
@click.argument("interface", type=INTERFACE, required=False)
@click.option("--stale", is_flag=True, help="Only what dead programs left.")
@AS_JSON
def restore(interface: str | None, stale: bool, as_json: bool) -> None:
    """Put back what 'zcrx-nic setup' and programs that died left on INTERFACE, or on all.

    Never touches what a living program set up.
    """

    def say(text: str) -> None:
        warnings.warn(text, stacklevel=1)

    done = restore_cards(interface, kept=not stale, say=say)
    if as_json:
        click.echo(json.dumps([json.loads(journal.to_json()) for journal in done], indent=2))
        return
    for journal in done:
        who = f"process {journal.owner.pid}" if journal.owner.pid else f"{PROGRAM} setup"
        click.echo(f"{journal.interface}: put back what {who} had changed")
    if not done:
        click.echo("nothing to put back")


def _plain(made: Plan) -> dict[str, object]:
    return {
        "interface": made.interface,
        "queues": made.queues,
        "steps": [{"kind": kind_of(step), **asdict(step)} for step in made.steps],
        "commands": made.commands(),
        "warnings": made.warnings,
    }


# -- show, for people -----------------------------------------------------------


def _lines(state: State) -> list[str]:
    rows: list[tuple[str, str]] = [
        ("driver", " ".join(filter(None, (state.driver, state.firmware, state.bus))) or "unknown"),
        (
            "link",
            f"{'up' if state.up else 'down'}, carrier {on_off(state.carrier)}, MTU {state.mtu}",
        ),
        ("addresses", ", ".join(state.addresses) or "none"),
        ("NUMA node", "none" if state.numa_node is None else str(state.numa_node)),
        ("XDP", "none" if state.xdp_program is None else f"program {state.xdp_program}"),
    ]
    if state.channels is not None:
        rows.append(("queues", f"{state.channels.rx_queues} receive"))
    rows += _ring_rows(state)
    if state.features:
        rows.append(("ntuple", on_off(state.features.get("rx-ntuple-filter", False))))
    rows += [("private flag", f"{name} {on_off(on)}") for name, on in state.private_flags.items()]
    rows += [(f"RSS {rss.context}", _rss(rss)) for rss in state.rss]
    if state.rules is not None:
        size = f" of {state.rule_slots}" if state.rule_slots else ""
        rows.append(("rules", f"{len(state.rules)}{size}"))
        rows += [(f"  {rule.location}", _rule(rule)) for rule in state.rules]
    rows += [(f"queue {queue.index}", _queue(state, queue)) for queue in state.queues]
    rows += [("not read", text) for text in state.unread]
    width = max(len(name) for name, _ in rows)
    return [state.interface, *(f"  {name:{width}}  {text}" for name, text in rows)]


def _ring_rows(state: State) -> list[tuple[str, str]]:
    rings = state.rings
    if rings is None:
        return []
    split = "not known to the driver"
    if rings.tcp_data_split is not None:
        split = f"{on_off(rings.tcp_data_split)} (asked for: cannot be read)"
    thresh = "not known to the driver" if rings.hds_thresh is None else str(rings.hds_thresh)
    return [
        ("rx ring", f"{rings.rx} of {rings.rx_max}"),
        ("header split", split),
        ("hds-thresh", thresh),
    ]


def _rss(rss: Rss) -> str:
    return f"{len(rss.table)} entries, {spread(list(rss.table))}"


def _rule(rule: Rule) -> str:
    where = "drop" if rule.queue is None else f"queue {rule.queue}"
    if rule.context is not None:
        where = f"RSS context {rule.context}"
    return f"{rule.flow or 'of another kind'} -> {where}"


def _queue(state: State, queue: Queue) -> str:
    words = [f"held by {queue.holder}" if queue.holder else "free"]
    napi, irq = state.napi_of(queue.index), state.irq_of(queue.index)
    if napi is not None:
        words.append(f"NAPI {napi.id}")
        for name, field in NAPI_FIELDS.items():
            if value := getattr(napi, field):
                words.append(f"{name} {value}")
    if irq is not None:
        words.append(f"IRQ {irq.number} on CPU {irq.effective_cpus or irq.cpus}")
    return ", ".join(words)


if __name__ == "__main__":
    main()

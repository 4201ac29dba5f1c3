"""``scripts/per-buffer``: what a received buffer costs, in slices of a memoryview."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import click

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx.bench.plan import BenchError, cpu_model
from pyzcrx.cli.common import Command
from pyzcrx.cli.streams import check_output
from pyzcrx.cli.values import Number, Text
from pyzcrx.errors import BadArgument

# At the end of the path: pyzcrx itself comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.perf import callgrind, flame, ways
from tests.perf.replay import MOST_PER_TURN


def _lengths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if all(re.fullmatch("[0-9]{1,4}", part) and 0 < int(part) <= PAGE for part in parts):
        return tuple(map(int, parts))
    raise BadArgument(f"{text!r} is no list of bytes such as {PAGE},{PAGE},756")


@click.command("per-buffer", cls=Command)
@click.option(
    "--per-turn",
    "turns",
    multiple=True,
    type=Number(2, MOST_PER_TURN),
    default=ways.PER_TURN,
    show_default=True,
    help="Buffers that a turn brings; may be given several times.",
)
@click.option(
    "--lengths",
    default=str(PAGE),
    show_default=True,
    type=Text("bytes", _lengths),
    metavar="BYTES[,BYTES...]",
    help="Bytes of the buffers, over and over.",
)
@click.option(
    "--connections",
    default=1,
    show_default=True,
    type=Number(1, MOST_PER_TURN),
    help="Connections that the buffers come from, in turn; at most as many as a turn has buffers.",
)
@click.option("--rounds", default=25, show_default=True, type=Number(1, 10000))
@click.option(
    "--instructions",
    is_flag=True,
    help="Count instructions too, by valgrind; they are repeatable.",
)
@click.option(
    "--profile",
    "profiled",
    type=click.Choice(list(ways.WAYS)),
    help="With --instructions: the functions that take most of this way's.",
)
@click.option(
    "--flame",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --profile: draw who calls whom in a turn, an SVG, of the last --per-turn.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def command(
    turns: tuple[int, ...],
    lengths: tuple[int, ...],
    connections: int,
    rounds: int,
    instructions: bool,
    profiled: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """What a received buffer costs on this CPU, in slices of a memoryview.

    Needs no kernel with zcrx, no NIC and no privilege: completions are written into the
    rings' memory as the kernel writes them, and received by the shim, the loop and Python
    as ever. Writing them is not counted, and neither is the kernel.
    """
    if profiled and not instructions:
        raise BenchError("--profile shows instructions: give --instructions, too")
    if picture and not profiled:
        raise BenchError("--flame draws a way: give --profile, too")
    if instructions:
        callgrind.program()
    check_output()
    report: dict[str, Any] = {
        "setup": {
            "cpu": cpu_model(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "pyzcrx": pyzcrx.__version__,
            "rounds": rounds,
            "lengths": list(lengths),
            "connections": connections,
        },
        "goals": ways.GOALS,
        "costs": {},
    }
    with click.progressbar(
        length=rounds * len(turns), label="per-buffer", file=sys.stderr
    ) as progress:
        for n in turns:
            of = min(n, connections)
            costs = ways.time_all(n, rounds, lengths, of, lambda: progress.update(1))
            report["costs"][str(n)] = {name: cost.as_dict() for name, cost in costs.items()}
    profile: list[str] = []
    if instructions:
        report["instructions"] = {}
        for n in turns:
            options = flame.OPTIONS if picture and n == turns[-1] else ()
            counted = callgrind.count(n, lengths, min(n, connections), options=options)
            report["instructions"][str(n)] = {
                name: counts.as_dict() for name, counts in counted.items()
            }
            if profiled:
                profile += ["", f"{profiled}, in turns of {n}:", *counted[profiled].functions()]
            if profiled and picture and options:
                flame.of_turn(profiled, n, counted[profiled], picture)
    click.echo(json.dumps(report, indent=1) if as_json else "\n".join([*_text(report), *profile]))


def _text(report: dict[str, Any]) -> list[str]:
    setup, costs = report["setup"], report["costs"]
    lengths = ", ".join(map(str, setup["lengths"]))
    lines = [
        f"{setup['cpu']}, Linux {setup['kernel']}, Python {setup['python']}, "
        f"pyzcrx {setup['pyzcrx']}",
        f"{setup['rounds']} rounds; buffers of {lengths} bytes, {setup['connections']} "
        "connection(s), in turns of so many:",
        "",
        f"{'':17} {'ns a buffer, CPU time (median)':^{8 * len(costs)}}  "
        f"{'in slices (median)':^{7 * len(costs)}}   goal",
        f"{'':17} " + "".join(f"{n:>8}" for n in costs) + "  " + "".join(f"{n:>7}" for n in costs),
    ]
    for name in ways.WAYS:
        goal = report["goals"].get(name)
        lines.append(
            f"{name:17} "
            + "".join(f"{each[name]['ns']:8.1f}" for each in costs.values())
            + "  "
            + "".join(f"{each[name]['slices']:7.2f}" for each in costs.values())
            + (f"   {goal}" if goal else "")
        )
    for n, counted in report.get("instructions", {}).items():
        lines += ["", *callgrind.table(n, counted, report["goals"])]
    return [*lines, "", *(f"{name}: {what}" for name, what in ways.described())]


if __name__ == "__main__":
    command()

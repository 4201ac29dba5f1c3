"""``python -m vm``: build the guest's image, run commands in it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from vm import bench, demo, emulator, image, ktap, module, perf, selftest, terminal, tiers, wheel
from vm.bed import Bed, Modelled, Simulated
from vm.choice import choose
from vm.config import Share
from vm.options import (
    TRACEBACK,
    Program,
    boot,
    chosen,
    guest_options,
    kernel_options,
    reported,
)
from vm.values import FOLDER, OUTPUT_FILE, RECEIVER, SECONDS, SELFTEST, TOOK, Number

EXIT_STATUSES = """
\b
Exit status: CMD's own; 128+n if signal n ended it; and ours, each with a line on stderr:
  122  the guest did not start (a tool is missing, a build or the boot failed)
  123  its kernel complained: WARN, BUG, Oops, lockdep... (even if CMD succeeded)
  124  CMD took longer than --timeout and was killed
  125  the guest died or hung
  126  CMD is not executable
  127  there is no such CMD
"""


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Debian guest whose kernel has io_uring zero-copy receive."""


@main.command()
@click.option("--rebuild", is_flag=True, help="Make it anew (fetches the newest kernel).")
@kernel_options
@TRACEBACK
def build(*, rebuild: bool, traceback: bool, **options: Any) -> None:
    """Make what a guest needs, if it is not there already, or the kernel that is named.

    Prints the folder of the image, or the kernel.
    """
    with reported(traceback=traceback):
        if options["kernel"] or options["debug"]:
            click.echo(chosen(options, rebuild=rebuild).image)
        else:
            made = image.obtain(rebuild=rebuild).entry.path
            emulator.obtain()
            click.echo(made)


# Options end where CMD begins, so that its own need no `--`.
@main.command(context_settings={"allow_interspersed_args": False}, epilog=EXIT_STATUSES)
@guest_options
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Kill CMD, with all that it started, after so long.",
)
@click.argument("command", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, command: tuple[str, ...], timeout: float | None, **options: Any) -> None:
    """Boot the guest, run CMD in it, power off.

    CMD gets our stdin (unless that is a terminal); its stdout and stderr are ours.
    It is no shell line: use `sh -c '...'` for that.
    """
    with reported(traceback=options["traceback"]):
        with boot(options) as guest:
            done = terminal.run(guest, command, timeout=timeout)
        sys.exit(done.exit_status)


@main.command(context_settings={"allow_interspersed_args": False})
@guest_options
@click.argument("command", metavar="[CMD...]", nargs=-1, type=click.UNPROCESSED)
def shell(*, command: tuple[str, ...], **options: Any) -> None:
    """Boot the guest and give a shell in it; its end ends the guest."""
    if not sys.stdin.isatty():
        raise click.UsageError("shell needs a terminal; for pipes there is `run`")
    with reported(traceback=options["traceback"]):
        with boot(options) as guest:
            environment = {"TERM": os.environ.get("TERM", "dumb")}
            done = terminal.shell(guest, command or ("bash", "-l"), environment)
        sys.exit(done.exit_status)


@main.command("demo")
@click.option("--nodev", is_flag=True, help="Without the simulated NIC: the kernel copies.")
@click.option("--gve", is_flag=True, help="On modelled gVNICs with the kernel's own driver, gve.")
@click.option("--native", is_flag=True, help="Without a guest: this kernel has NODEV itself.")
@click.option(
    "--mib", default=64, show_default=True, type=Number(1, 1024), help="How much to send."
)
@click.option(
    "--took",
    "took",
    type=TOOK,
    multiple=True,
    metavar="STEP=SECONDS",
    help="A step that was done before, for the list.",
)
def show(*, mib: int, took: tuple[tuple[str, float], ...], **where: bool) -> None:
    """Random bytes from a stock client through zcrx-echo and back, compared."""
    steps = demo.Steps(list(took))
    with reported():
        demo.run(mib << 20, steps=steps, **where)
        click.echo(f"  steps        {steps.text()}")


@main.command("bench")
@click.option("--nodev", is_flag=True, help="Over loopback, without the simulated NIC.")
@click.option(
    "--mtu",
    default=9000,
    show_default=True,
    type=Number(1280, 65535),
    help="Of the simulated NICs.",
)
@click.option(
    "--pack",
    is_flag=True,
    help="Have the NIC put several frames into one buffer (see --rx-buf-len).",
)
@click.option(
    "--touches",
    is_flag=True,
    help="Count how often payload is read and written, too: every byte is read then.",
)
@click.option(
    "--profile",
    "profiled",
    type=RECEIVER,
    metavar="RECEIVER",
    help="Show where its instructions go.",
)
@click.option("--no-counting", is_flag=True, help="Without the plugin: times, no instructions.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON on standard output.")
@click.option(
    "--queues",
    default=1,
    show_default=True,
    type=Number(1, 64),
    help="A process and a queue each, with --no-counting.",
)
@click.option("--cpus", default=2, show_default=True, type=Number(2, 64))
@click.argument("arguments", metavar="[ZCRX-BENCH ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run_bench(*, arguments: tuple[str, ...], **options: Any) -> None:
    """Receivers side by side in the guest: instructions counted, times beside them.

    Arguments behind -- go to zcrx-bench (-r, --rounds, --size, --rx-buf-len...).
    """
    with reported():
        bench.run(bench.Options(**options), arguments)


@main.command("perf")
@click.option(
    "--record",
    "recording",
    is_flag=True,
    help="Write the ratios to tests/perf/recorded.json instead of comparing.",
)
@click.option("--tables", is_flag=True, help="Print each run's table, too.")
def count_perf(*, recording: bool, tables: bool) -> None:
    """Count what receivers cost, as ratios; what `test --tier perf` compares."""
    with reported():
        if recording:
            for name, ratio in perf.record(tables=tables).items():
                click.echo(f"{name}: {ratio}")
            return
        judged = perf.check(tables=tables)
        for each in judged:
            click.echo(str(each))
        sys.exit(0 if all(each.ok for each in judged) else 1)


@main.command("wheel")
def build_wheel() -> None:
    """Build pyzcrx's wheel from this checkout, if it is not there already."""
    with reported():
        built = wheel.obtain("auto")
        assert built is not None
        click.echo(built[0])


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--tier",
    "names",
    multiple=True,
    type=click.Choice(list(tiers.TIERS)),
    help="Run this tier (may be given several times).  [default: all but perf]",
)
@click.option("--long", is_flag=True, help="As often as the docs' figures say: hours.")
@kernel_options
@click.argument("arguments", metavar="[PYTEST ARGS]...", nargs=-1, type=click.UNPROCESSED)
def test(*, names: tuple[str, ...], long: bool, arguments: tuple[str, ...], **options: Any) -> None:
    """Run the project's tests, tier by tier; extra arguments go to pytest.

    The kernel is that of the tiers nodev, sim and gve.
    """
    os.environ[tiers.LONG] = str(int(long))
    default = [name for name in tiers.TIERS if name not in tiers.ON_REQUEST]
    with reported():
        kernel = chosen(options) if options["kernel"] or options["debug"] else None
        sys.exit(0 if tiers.run_tiers(names or default, arguments, kernel) else 1)


@main.command("selftest")
@guest_options
@click.option(
    "--tree",
    type=FOLDER,
    help="Take the tests from this kernel source tree, and its kernel unless --kernel is given.",
)
@click.option(
    "--times",
    default=1,
    show_default=True,
    type=Number(1, 10000),
    help="Run all of them so often.",
)
@click.option(
    "--queues",
    default=4,
    show_default=True,
    type=Number(1, 66),
    help="Queues that each simulated NIC starts with.",
)
@click.option(
    "--timeout",
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    type=SECONDS,
    help="For each test file.",
)
@click.option("--all", "every", is_flag=True, help="Every test below drivers/net and its hw.")
@click.option(
    "--json",
    "figures",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Write counts, seconds and reasons there.",
)
@click.option(
    "--markdown",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Write them there as a table.",
)
@click.argument("tests", metavar="[TEST]...", nargs=-1, type=SELFTEST)
def run_selftests(
    *,
    tests: tuple[str, ...],
    every: bool,
    figures: Path | None,
    markdown: Path | None,
    tree: Path | None,
    times: int,
    queues: int,
    timeout: float,
    **options: Any,
) -> None:
    """Run the kernel's own selftests on a pair of simulated NICs, or with --gve of modelled ones.

    TEST is a path below tools/testing/selftests; without one it is
    drivers/net/hw/iou-zcrx.py, with --gve queues.py, hds.py and rss_api.py. Their output
    (KTAP) is passed on, with what the NIC counted as zero-copied after each, and a summary
    at the end. With --all, a guest that a test has killed is replaced.
    """
    if every and tests:
        raise click.UsageError("either --all or tests by name")
    with reported(traceback=options["traceback"]):
        kernel = choose(options["kernel"] or tree, options["modules"], debug=options["debug"])
        gve = options["gve"]
        bed: Bed = Modelled() if gve else Simulated(queues)
        extra = [Share.of(selftest.obtain(choose().release, tree), selftest.GUEST_FOLDER)]
        if not gve:
            extra.append(Share.of(module.for_guest(kernel), module.GUEST_FOLDER))
        chosen_tests = tests or (selftest.GVE_TESTS if gve else selftest.DEFAULT_TESTS)
        outcomes = selftest.run(
            lambda: boot(options | {"kernel": kernel, "wheel": "none", "sim": False}, extra),
            bed,
            () if every else chosen_tests,
            times=times,
            timeout=timeout,
        )
        # First what cannot fail because of a file: hours may be in it.
        click.echo("# summary")
        for outcome in outcomes:
            click.echo(f"# {outcome}")
        if figures:
            figures.write_text(json.dumps([each.as_json() for each in outcomes], indent=1) + "\n")
        if markdown:
            markdown.write_text(ktap.table(outcomes))
        sys.exit(0 if all(outcome.ok for outcome in outcomes) else 1)

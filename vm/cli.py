"""``python -m vm``: build the guest's image, run commands in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vm import demo, image, terminal, tiers, wheel
from vm.config import Config, Share, default_cpus
from vm.errors import VmError
from vm.guest import Guest

Command = TypeVar("Command", bound=Callable[..., Any])

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


class Fail:
    """Turns errors into a line, and with --debug into a traceback."""

    debug = False

    @classmethod
    @contextmanager
    def guarded(cls) -> Iterator[None]:
        try:
            yield
        except VmError as error:
            if cls.debug:
                raise
            for line in error.details:
                click.echo(f"  | {line}", err=True)
            click.echo(f"vm: error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:  # our reader has left, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)
        except KeyboardInterrupt:
            sys.exit(128 + 2)


def guest_options(command: Command) -> Command:
    """The options that ``run`` and ``shell`` share."""
    options = [
        click.option("--kernel", type=click.Path(path_type=Path), metavar="PATH",
                     help="Boot this: a bzImage, a folder with one, or a .deb."),
        click.option("--modules", type=click.Path(path_type=Path), metavar="DIR",
                     help="Its modules, where they are not found beside it; or a .deb."),
        click.option("--share", "shares", multiple=True, metavar="HOST[:GUEST][:rw]",
                     help="Show a folder in the guest (read-only by default)."),
        click.option("--wheel", default="auto", metavar="PATH|auto|none",
                     help="pyzcrx for the guest; auto builds it from this checkout."),
        click.option("--memory", default=2048, metavar="MIB", show_default=True,
                     type=click.IntRange(min=256)),
        click.option("--cpus", default=default_cpus, type=click.IntRange(1, 64)),
        click.option("--append", default="", metavar="ARGS", help="More kernel parameters."),
        click.option("--vfio", multiple=True, metavar="BDF",
                     help="Pass this PCI device through (see docs/guest.md)."),
        click.option("--console", type=click.Path(path_type=Path, dir_okay=False),
                     metavar="FILE", help="Keep the kernel's log here."),
        click.option("--no-kvm", is_flag=True, help="Do not even try KVM."),
        click.option("-v", "--verbose", is_flag=True, help="Say what was booted, and how fast."),
        click.option("--debug", is_flag=True, help="Show a traceback for errors."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def boot(options: dict[str, Any]) -> Guest:
    """The guest that these options ask for."""
    guest = Guest(
        Config(
            kernel=options["kernel"],
            modules=options["modules"],
            shares=tuple(Share.parse(text) for text in options["shares"]),
            wheel=options["wheel"],
            memory_mib=options["memory"],
            cpus=options["cpus"],
            append=options["append"],
            vfio=options["vfio"],
            console=options["console"],
            kvm=not options["no_kvm"],
        )
    )
    if options["verbose"]:
        accelerator = "KVM" if guest.kvm else "TCG"
        click.echo(
            f"vm: Linux {guest.release} under {accelerator}, image {guest.image_key},"
            f" booted in {guest.boot_seconds:.1f} s",
            err=True,
        )
    return guest


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Debian guest whose kernel has io_uring zero-copy receive."""


@main.command()
@click.option("--rebuild", is_flag=True, help="Make it anew (fetches the newest kernel).")
@click.option("--debug", is_flag=True, help="Show a traceback for errors.")
def build(*, rebuild: bool, debug: bool) -> None:
    """Make the guest's image, if it is not there already."""
    Fail.debug = debug
    with Fail.guarded():
        made = image.obtain(rebuild=rebuild)
        click.echo(made.entry.path)


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=EXIT_STATUSES,
)
@guest_options
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Kill CMD, with all that it started, after so long.")  # fmt: skip
@click.argument("command", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, command: tuple[str, ...], timeout: float | None, **options: Any) -> None:
    """Boot the guest, run CMD in it, power off.

    CMD gets our stdin (unless that is a terminal); its stdout and stderr are ours.
    Write `-- CMD...` if CMD has options. It is no shell line: use `sh -c '...'`.
    """
    Fail.debug = options["debug"]
    with Fail.guarded():
        with boot(options) as guest:
            done = terminal.run(guest, command, timeout=timeout)
        sys.exit(done.exit_status)


@main.command()
@guest_options
@click.argument("command", metavar="[CMD...]", nargs=-1, type=click.UNPROCESSED)
def shell(*, command: tuple[str, ...], **options: Any) -> None:
    """Boot the guest and give a shell in it; its end ends the guest."""
    Fail.debug = options["debug"]
    if not sys.stdin.isatty():
        raise click.UsageError("shell needs a terminal; for pipes there is `run`")
    with Fail.guarded():
        with boot(options) as guest:
            environment = {"TERM": os.environ.get("TERM", "dumb")}
            done = terminal.shell(guest, command or ("bash", "-l"), environment)
        sys.exit(done.exit_status)


@main.command("demo")
@click.option("--native", is_flag=True, help="Without a guest: this kernel has NODEV itself.")
@click.option("--mib", default=64, show_default=True, type=click.IntRange(1, 1024),
              help="How much to send.")
@click.option("--took", "took", multiple=True, metavar="STEP=SECONDS",
              help="A step that was done before, for the list.")  # fmt: skip
def show(*, native: bool, mib: int, took: tuple[str, ...]) -> None:
    """Random bytes from a stock client through zcrx-echo and back, compared."""
    steps = demo.Steps([(step, float(s)) for step, s in (text.split("=") for text in took)])
    with Fail.guarded():
        demo.run(mib << 20, native=native, steps=steps)
        click.echo(f"  steps        {steps.text()}")


@main.command("wheel")
def build_wheel() -> None:
    """Build pyzcrx's wheel from this checkout, if it is not there already."""
    with Fail.guarded():
        built = wheel.obtain("auto")
        assert built is not None
        click.echo(built[0])


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--tier",
    "names",
    multiple=True,
    type=click.Choice(list(tiers.TIERS)),
    help="Run this tier (may be given several times).  [default: all]",
)
@click.argument("arguments", metavar="[PYTEST ARGS]...", nargs=-1, type=click.UNPROCESSED)
def test(*, names: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Run the project's tests, tier by tier; extra arguments go to pytest."""
    with Fail.guarded():
        sys.exit(0 if tiers.run_tiers(names or tiers.TIERS, arguments) else 1)

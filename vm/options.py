"""What the commands have in common: the guest's options, and how errors are told."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import click

from vm import cache, gvnics, module
from vm.choice import choose
from vm.config import Config, Share, default_cpus
from vm.errors import EXIT_NOT_STARTED, VmError
from vm.guest import Guest
from vm.kernel import Kernel
from vm.stop import Stopped, stoppable
from vm.values import (
    DEVICE,
    KERNEL_NAME,
    MODULES,
    OUTPUT_FILE,
    PARAMETERS,
    PLUGIN,
    SHARE,
    WHEEL,
    Number,
)

Command = TypeVar("Command", bound=Callable[..., Any])
READER_LEFT = 128 + 13
INTERRUPTED = 128 + 2

KERNEL = [
    click.option(
        "--kernel",
        type=KERNEL_NAME,
        metavar="WHICH",
        help="Boot this: a source tree, a folder with a kernel, an image, a .deb,"
        " debian:VERSION from the archive, or stock.  [default: stock]",
    ),
    click.option(
        "--modules",
        type=MODULES,
        metavar="DIR",
        help="Its modules, where they are not found beside it; or a .deb.",
    ),
    click.option(
        "--debug",
        is_flag=True,
        help="Build it with KASAN, lockdep and DEBUG_NET, from the tree that --kernel"
        " names or from the distribution's source.",
    ),
]
_TRACEBACK = "vm.traceback"


def _note_traceback(ctx: click.Context, _param: click.Parameter, given: bool) -> bool:
    if given:
        ctx.meta[_TRACEBACK] = True
    return given


TRACEBACK = click.option(
    "--traceback", is_flag=True, callback=_note_traceback, help="Show a traceback for errors."
)


@contextmanager
def reported(*, traceback: bool = False) -> Iterator[None]:
    """End the program with a line for each error; with ``traceback`` let that come."""
    try:
        with stoppable():
            cache.sweep()
            yield
    except VmError as error:
        if traceback:
            raise
        for line in error.details:
            click.echo(f"  | {line}", err=True)
        click.echo(f"vm: error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


@contextmanager
def _one_line(*, traceback: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """End the program with a line for an OSError, such as output that cannot be written."""
    try:
        yield
    except OSError as error:
        if traceback() and error.errno != errno.EPIPE:
            raise
        # What was not written would fail once more at the end of Python.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:  # our reader has left, as `| head` does
            sys.exit(READER_LEFT)
        where = f"{error.filename}: " if error.filename else ""
        with suppress(OSError):
            click.echo(f"vm: error: {where}{error.strerror}", err=True)
        sys.exit(EXIT_NOT_STARTED)


class Program(click.Group):
    """``python -m vm``: what ends it otherwise than an error of ours is one line, too."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _one_line():  # click itself would make an EPIPE of --help status 1
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line(traceback=lambda: _TRACEBACK in ctx.meta):
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        try:
            status = super().main(*args, **kwargs | {"standalone_mode": False}) or 0
        except click.ClickException as error:
            status = error.exit_code
            with suppress(OSError):
                error.show()
        except click.Abort:
            status = INTERRUPTED
        sys.exit(status)


def guest_options(command: Command) -> Command:
    """The options that ``run`` and ``shell`` share."""
    options = [
        *KERNEL,
        click.option(
            "--share",
            "shares",
            type=SHARE,
            multiple=True,
            metavar="HOST[:GUEST][:rw]",
            help="Show a folder in the guest (read-only by default).",
        ),
        click.option(
            "--wheel",
            type=WHEEL,
            default="auto",
            metavar="PATH|auto|none",
            help="pyzcrx for the guest; auto builds it from this checkout.",
        ),
        click.option(
            "--memory",
            default=2048,
            metavar="MIB",
            show_default=True,
            type=Number(256, 1 << 20),
        ),
        click.option("--cpus", default=default_cpus(), show_default=True, type=Number(1, 64)),
        click.option(
            "--append", type=PARAMETERS, default="", metavar="ARGS", help="More kernel parameters."
        ),
        click.option(
            "--sim",
            is_flag=True,
            help="With a pair of simulated NICs, zcrx0 and, in netns peer, zcrx1.",
        ),
        click.option(
            "--gve",
            is_flag=True,
            help="With a pair of modelled gVNICs and the kernel's own driver gve, named as with"
            " --sim (see docs/reference/gve.md).",
        ),
        click.option(
            "--netdevsim",
            is_flag=True,
            help="With the kernel's netdevsim loaded (see docs/how-to/guest.md).",
        ),
        click.option(
            "--vfio",
            type=DEVICE,
            multiple=True,
            metavar="BDF",
            help="Pass this PCI device through (see docs/how-to/guest.md).",
        ),
        click.option(
            "--plugin",
            "plugins",
            type=PLUGIN,
            multiple=True,
            metavar="FILE.so[,ARG=VALUE]...",
            help="Load this QEMU TCG plugin (no KVM then); see docs/how-to/guest.md.",
        ),
        click.option(
            "--console",
            type=OUTPUT_FILE,
            metavar="FILE",
            help="Keep the kernel's log here.",
        ),
        click.option("--no-kvm", is_flag=True, help="Do not even try KVM."),
        click.option("-v", "--verbose", is_flag=True, help="Say what was booted, and how fast."),
        TRACEBACK,
    ]
    return _with(command, options)


def kernel_options(command: Command) -> Command:
    """The options that say which kernel."""
    return _with(command, KERNEL)


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def chosen(options: dict[str, Any], **more: Any) -> Kernel:
    """The kernel that these options ask for."""
    return choose(options["kernel"], options["modules"], debug=options["debug"], **more)


def boot(options: dict[str, Any], extra: Sequence[Share] = ()) -> Guest:
    """The guest that these options ask for."""
    wanted = [
        each
        for each, flag in ((module.ZCRXSIM, "sim"), (module.NETDEVSIM, "netdevsim"))
        if options[flag]
    ]
    if options["sim"] and options["gve"]:
        raise click.UsageError("--sim or --gve: both have zcrx0 and zcrx1")
    kernel = chosen(options)
    built = [(each, module.obtain(each, kernel)) for each in wanted]
    guest = Guest(
        Config(
            kernel=kernel,
            shares=(
                *options["shares"],
                *extra,
                *(Share.of(entry, each.guest_folder) for each, entry in built),
            ),
            wheel=options["wheel"],
            memory_mib=options["memory"],
            cpus=options["cpus"],
            append=options["append"],
            vfio=options["vfio"],
            gve=options["gve"],
            plugins=options["plugins"],
            console=options["console"],
            kvm=not (options["no_kvm"] or options["plugins"]),
        )
    )
    if options["verbose"]:
        accelerator = "KVM" if guest.kvm else "TCG"
        click.echo(
            f"vm: Linux {guest.release} under {accelerator}, image {guest.image_key},"
            f" booted in {guest.boot_seconds:.1f} s",
            err=True,
        )
    for each in wanted:
        module.set_up(guest.run, module=each)
    if options["gve"]:
        gvnics.set_up(guest.run)
    return guest

"""What the commands have in common: the guest's options, and how errors are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from vm import module
from vm.choice import choose
from vm.config import Config, Share, default_cpus
from vm.errors import VmError
from vm.guest import Guest
from vm.kernel import Kernel

Command = TypeVar("Command", bound=Callable[..., Any])

KERNEL = [
    click.option(
        "--kernel",
        metavar="WHICH",
        help="Boot this: a source tree, a folder with a kernel, an image, a .deb,"
        " debian:VERSION from the archive, or stock.  [default: stock]",
    ),
    click.option(
        "--modules",
        type=click.Path(path_type=Path),
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
TRACEBACK = click.option("--traceback", is_flag=True, help="Show a traceback for errors.")


@contextmanager
def reported(*, traceback: bool = False) -> Iterator[None]:
    """End the program with a line for each error; with ``traceback`` let that come."""
    try:
        yield
    except VmError as error:
        if traceback:
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
        *KERNEL,
        click.option(
            "--share",
            "shares",
            multiple=True,
            metavar="HOST[:GUEST][:rw]",
            help="Show a folder in the guest (read-only by default).",
        ),
        click.option(
            "--wheel",
            default="auto",
            metavar="PATH|auto|none",
            help="pyzcrx for the guest; auto builds it from this checkout.",
        ),
        click.option(
            "--memory", default=2048, metavar="MIB", show_default=True, type=click.IntRange(min=256)
        ),
        click.option(
            "--cpus", default=default_cpus(), show_default=True, type=click.IntRange(1, 64)
        ),
        click.option("--append", default="", metavar="ARGS", help="More kernel parameters."),
        click.option(
            "--sim",
            is_flag=True,
            help="With a pair of simulated cards, zcrx0 and, in netns peer, zcrx1.",
        ),
        click.option(
            "--netdevsim",
            is_flag=True,
            help="With the kernel's netdevsim loaded (see docs/how-to/guest.md).",
        ),
        click.option(
            "--vfio",
            multiple=True,
            metavar="BDF",
            help="Pass this PCI device through (see docs/how-to/guest.md).",
        ),
        click.option(
            "--plugin",
            "plugins",
            multiple=True,
            metavar="FILE.so[,ARG=VALUE]...",
            help="Load this QEMU TCG plugin (no KVM then); see docs/how-to/guest.md.",
        ),
        click.option(
            "--console",
            type=click.Path(path_type=Path, dir_okay=False),
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
    kernel = chosen(options)
    built = [(each, module.obtain(each, kernel)) for each in wanted]
    guest = Guest(
        Config(
            kernel=kernel,
            shares=(
                *(Share.parse(text) for text in options["shares"]),
                *extra,
                *(Share.of(entry, each.guest_folder) for each, entry in built),
            ),
            wheel=options["wheel"],
            memory_mib=options["memory"],
            cpus=options["cpus"],
            append=options["append"],
            vfio=options["vfio"],
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
    return guest

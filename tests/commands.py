"""The commands of this package, for tests that walk all of them."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import click

import pyzcrx.cli
from tests.patience import START_S


def parameters() -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Each parameter of each command, behind the module and the subcommand it belongs to."""
    for module in pkgutil.iter_modules(pyzcrx.cli.__path__):
        main = getattr(importlib.import_module(f"pyzcrx.cli.{module.name}"), "main", None)
        if isinstance(main, click.Command):
            yield from _parameters(main, module.name)


def _parameters(
    command: click.Command, *path: str
) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    for parameter in command.params:
        yield path, parameter
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from _parameters(sub, *path, name)


def run(module: str, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"pyzcrx.cli.{module}", *arguments],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr

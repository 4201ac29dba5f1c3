"""Everything public that the reference must have, found by introspection.

Nothing here is a list by hand, except what exit statuses mean: :func:`exit_statuses_used` reads
their numbers from the commands' source, and a test compares.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from pyzcrx import errors, placement
from pyzcrx._pressure import stats
from pyzcrx._send.stats import SendStats
from pyzcrx.forwarding.stats import RelayStats
from pyzcrx.record.stats import RecordStats

ROOT = Path(__file__).resolve().parents[2]
FURTHER = (
    "pyzcrx.aio",
    "pyzcrx.doctor",
    "pyzcrx.placement",
    "pyzcrx.privilege",
    "pyzcrx.supervisor",
)
"""Modules that a program imports by name when it needs them."""
MODULES = ("pyzcrx", "pyzcrx.errors", "pyzcrx.types", "pyzcrx.nic", "pyzcrx.testing", *FURTHER)
"""Public by their names; ``__all__`` says what of them, or what they define if they have none."""

EVERY_COMMAND = {
    0: "done",
    1: "an error: one line on standard error with its cause and fix",
    2: "wrong command line",
    141: "the reader of standard output went away (SIGPIPE)",
}
EXIT_STATUSES: dict[str, dict[int, str]] = {
    "zcrx-echo": {0: "ended by SIGINT or SIGTERM, or with --once after its connection"},
    "zcrx-relay": {0: "ended by SIGINT or SIGTERM"},
    "zcrx-recv": {
        0: "all that the peers sent is on disk",
        1: "some stream is not whole: a line for each says why and what is right; or an error",
        130: "ended by SIGINT before the streams ended",
        143: "ended by SIGTERM before the streams ended",
    },
    "zcrx-doctor": {0: "ready: no finding is a problem", 1: "not ready, or an error"},
}
"""Where a command's statuses say more than those of :data:`EVERY_COMMAND`."""
GUEST = {
    0: "done; of run and shell: the status of CMD, or 128+n if signal n ended CMD",
    1: "a test, a selftest or a recorded ratio failed",
    2: EVERY_COMMAND[2],
    129: "ended by SIGHUP",
    130: "ended by Ctrl-C",
    141: EVERY_COMMAND[141],
    143: "ended by SIGTERM",
}
"""Statuses of ``python -m vm`` beside those that its help lists."""


PLAIN_KEYS = {
    "receiver_cpu": "The CPU that the receiver runs on now.",
    "receiver_cpus": "The CPUs that the receiver may run on.",
    "softirq_cpus": "Each CPU that processed packets, with the number of connections whose last "
    "packet it processed (SO_INCOMING_CPU).",
    "napi_ids": "Each NAPI instance, with its number of connections (SO_INCOMING_NAPI_ID).",
    "busy_poll_us": "Microseconds of busy polling, as asked for by --busy-poll.",
}
"""What a key means whose source has no text for it."""


def names(module: ModuleType) -> list[str]:
    """The public names of *module*."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def objects() -> Iterator[tuple[str, str, Any]]:
    """Module, name and object of everything public."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in names(module):
            yield module_name, name, getattr(module, name)


def error_types() -> list[type[BaseException]]:
    """Every typed error and warning, the root first, then by the tree."""

    def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        yield kind
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from below(child)

    found = list(below(errors.ZcrxError))
    more = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Warning) and value.__module__ == errors.__name__
    ]
    return list(dict.fromkeys([*found, *more]))


def statistics_keys() -> dict[str, list[str]]:
    """The keys of a receiver's figures in ``--json``, and those of the members within them."""
    return {
        "": [field.name for field in fields(stats.ReceiverStats)],
        "sent": [field.name for field in fields(SendStats)],
        "relay": [field.name for field in fields(RelayStats)],
        "streams": [field.name for field in fields(RecordStats)],
        "placement": list(placement.Tally().as_dict()),
    }


def statistics_types() -> dict[str, type]:
    """The types behind those keys."""
    return {
        "": stats.ReceiverStats,
        "sent": SendStats,
        "relay": RelayStats,
        "streams": RecordStats,
        "placement": placement.Tally,
    }


def commands() -> dict[str, tuple[str, click.Command]]:
    """Each installed command, and ``python -m vm``: where it is imported from, and what it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    where = {**project["scripts"], "python -m vm": "vm.cli:main"}
    found = {}
    for program, path in where.items():
        module, _, attribute = path.partition(":")
        found[program] = (path, getattr(importlib.import_module(module), attribute))
    return found


def options(program: str, command: click.Command) -> Iterator[tuple[str, str]]:
    """Program (with its subcommands) and option, of every option that is not hidden."""
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            for spelling in (*param.opts, *param.secondary_opts):
                yield program, spelling
    for name, child in getattr(command, "commands", {}).items():
        yield from options(f"{program} {name}", child)


def all_options() -> list[tuple[str, str]]:
    return [
        each for program, (_, command) in commands().items() for each in options(program, command)
    ]


def exit_statuses() -> dict[str, dict[int, str]]:
    """Each program's exit statuses and their meanings."""
    from vm import cli

    found = {
        program: dict(sorted((EVERY_COMMAND | EXIT_STATUSES.get(program, {0: "done"})).items()))
        for program in commands()
    }
    listed = re.findall(r"^  (\d+)  (.+)$", cli.EXIT_STATUSES, re.MULTILINE)
    found["python -m vm"] = GUEST | {int(number): text for number, text in listed}
    return {program: dict(sorted(statuses.items())) for program, statuses in found.items()}


def exit_statuses_used(*folders: Path) -> set[int]:
    """The numbers that the modules of *folders* end with, as far as they are written as numbers."""
    found: set[int] = set()
    for path in (path for folder in folders for path in folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("exit", "_exit")
            ):
                for argument in node.args:
                    found |= set(_numbers(argument))
            elif isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id.startswith("EXIT_")
                for target in node.targets
            ):
                found |= set(_numbers(node.value))
    return found


def _numbers(expression: ast.expr) -> Iterator[int]:
    """The values of an expression of numbers; of a condition those of both branches."""
    if isinstance(expression, ast.IfExp):
        yield from _numbers(expression.body)
        yield from _numbers(expression.orelse)
    elif isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        yield from map(sum, product(_numbers(expression.left), _numbers(expression.right)))
    elif isinstance(expression, ast.Constant) and type(expression.value) is int:
        yield expression.value

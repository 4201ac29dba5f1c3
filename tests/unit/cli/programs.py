"""Every command there is, by click's own lists: a new command or option is in them by itself."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tests.unit.cli import forked
from vm import cli as vm

VM = "python -m vm"
SCRIPTS = {
    script.name: script
    for script in importlib.metadata.distribution("pyzcrx").entry_points
    if script.group == "console_scripts"
}
ROOTS: dict[str, click.Command] = {name: script.load() for name, script in SCRIPTS.items()} | {
    VM: vm.main
}


@dataclass(frozen=True)
class Member:
    """A command; *words* call it."""

    words: tuple[str, ...]
    command: click.Command

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def root(self) -> click.Command:
        return ROOTS[self.words[0]]


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[Member]:
    yield Member(words, command)
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _below((*words, name), each)


MEMBERS = [member for name, root in ROOTS.items() for member in _below((name,), root)]


@dataclass(frozen=True)
class Ended:
    """How a command ended, what it wrote, what it said on standard error."""

    status: int | str
    out: str
    err: str


def run(name: str, cases: Sequence[tuple[list[str], str]], folder: Path) -> list[Ended]:
    """A program in *folder*, once for each (arguments, kind of standard output)."""
    module = SCRIPTS[name].module if name in SCRIPTS else "vm.cli"
    done = subprocess.run(
        [sys.executable, "-P", forked.__file__, module, name],
        input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/nonexistent", "COLUMNS": "80"},  # no valgrind: it takes its time
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(ended) == len(cases)
    return ended

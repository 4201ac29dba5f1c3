"""Shell lines taken apart far enough to see which commands of ours they call, and how."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise

import click

_STARTS = {"sudo", "export", "env"}
_INTERPRETERS = {"python", "python3"}
_REDIRECTIONS = {">", "<", ">>", ">&"}


def lines(text: str) -> list[str]:
    """The logical lines: continuations joined, quoted newlines kept, comments left out."""
    found, line, quote, comment = [], "", "", False
    for char in text + "\n":
        comment = comment and char != "\n"
        if comment:
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (not line or line[-1].isspace()):
            comment = True
            continue
        elif char == "\n" and line.endswith("\\"):
            line = line[:-1]
            continue
        elif char == "\n":
            found.append(line.strip())
            line = ""
            continue
        line += char
    return [line for line in found if line]


def words(text: str) -> list[list[str]]:
    """The simple commands of *text*, each as its words; redirections and assignments left out."""
    found: list[list[str]] = []
    for line in lines(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        lexer.commenters = ""
        found.append([])
        skip = False
        for token in lexer:
            if skip:
                skip = False
            elif token in _REDIRECTIONS:
                skip = True
            elif set(token) <= set("();|&"):
                found.append([])
            else:
                found[-1].append(token)
    return [stripped for command in found if (stripped := _stripped(command))]


def _stripped(command: list[str]) -> list[str]:
    while command and (command[0] in _STARTS or "=" in command[0].partition("/")[0]):
        command = command[1:]
    if command[:3] == ["ip", "netns", "exec"]:
        command = command[4:]
    return command


def ours(text: str, programs: dict[str, click.Command]) -> Iterator[tuple[str, list[str]]]:
    """Program and arguments of each call of one of *programs*, in nested scripts too."""
    for command in words(text):
        yield from _ours(command, programs)


def _ours(
    command: Sequence[str], programs: dict[str, click.Command]
) -> Iterator[tuple[str, list[str]]]:
    name, arguments = command[0].rpartition("/")[2], list(command[1:])
    if name in _INTERPRETERS and arguments[:2] == ["-m", "vm"]:
        name, arguments = "python -m vm", arguments[2:]
    elif command[0] in ("scripts/demo", "scripts/test"):
        name, arguments = "python -m vm", [name, *arguments]
    if name in ("sh", "bash"):
        for option, script in pairwise(arguments):
            if option.startswith("-") and option.endswith("c"):
                yield from ours(script, programs)
    if name in programs:
        yield name, arguments
        if name == "python -m vm" and "--" in arguments:
            rest = arguments[arguments.index("--") + 1 :]
            nested = {"run": rest, "shell": rest, "bench": ["zcrx-bench", *rest]}
            if nested.get(arguments[0]):
                yield from _ours(nested[arguments[0]], programs)


def parse(command: click.Command, name: str, arguments: Sequence[str]) -> None:
    """Have click take the arguments, without calling anything. Raises click.UsageError."""
    try:
        context = command.make_context(name, list(arguments))
    except click.exceptions.Exit:  # --help, --version
        return
    if isinstance(command, click.Group):
        # Its subcommand's name and all behind it; click 8.2 has hidden the former.
        hidden = "_protected_args" if hasattr(context, "_protected_args") else "protected_args"
        rest = [*getattr(context, hidden), *context.args]
        if rest:
            found, child, more = command.resolve_command(context, rest)
            assert child is not None
            parse(child, f"{name} {found}", more)

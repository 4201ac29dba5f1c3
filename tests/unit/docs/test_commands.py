"""The pages' command lines: each option of ours exists, and what can run here runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from _site import public

import pyzcrx.cli.values as cli_values
import vm.values
from tests.pages import PAGES, ROOT, Block, blocks, commands, sources, spans
from tests.perf import per_buffer
from tests.shell import ours, parse, words

PROGRAMS = {program: command for program, (_, command) in public.commands().items()}
PROGRAMS["per-buffer"] = per_buffer.command
SHELL = [block for block in blocks() if block.language in ("sh", "console")]
HERE = [block for block in SHELL if block.how.startswith("here ")]
STARTS = {*PROGRAMS, "python", "scripts/demo", "scripts/test", "scripts/per-buffer"}
SCRIPTS = {"demo", "test", "docs", "get-liburing", "per-buffer"}


OF_A_MACHINE = ("kernel", "folder", "share", "wheel", "device", "plugin")
"""Values of ``python -m vm`` that name something of the reader's machine."""


@pytest.fixture(autouse=True)
def _any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, folders, devices and namespaces that a page names need not be here."""

    def given(_type: object, value: object, *_: object) -> object:
        return value

    monkeypatch.setattr(click.Path, "convert", given)
    monkeypatch.setattr(cli_values.NetNs, "convert", given)
    checked = vm.values.Text.convert

    def convert(self: vm.values.Text, value: object, *rest: Any) -> object:
        return value if self.name in OF_A_MACHINE else checked(self, value, *rest)

    monkeypatch.setattr(vm.values.Text, "convert", convert)


def refuse(text: str) -> None:
    for program, arguments in ours(text, PROGRAMS):
        parse(PROGRAMS[program], program, arguments)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_our_commands_take_their_options(block: Block) -> None:
    for line in commands(block):
        refuse(line)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_block_is_a_script_and_its_scripts_exist(block: Block) -> None:
    script = "\n".join(commands(block))
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for command in words(script):
        if command[0].startswith("scripts/"):
            assert command[0].removeprefix("scripts/") in SCRIPTS
            assert (ROOT / command[0]).exists()


def test_the_pages_name_every_command() -> None:
    named = {program for block in SHELL for program, _ in ours(block.text, PROGRAMS)}
    assert named == set(PROGRAMS)


@pytest.mark.parametrize(
    "line",
    [
        "zcrx-echo --nodew",
        "sudo venv/bin/zcrx-echo --port none",
        "zcrx-nic shew eth0",
        "zcrx-nic setup eth0 --flows x",
        "A=b zcrx-doctor --nonesuch > out.txt",
        "python -m vm run --sims -- true",
        "python -m vm run -- sh -ec 'true; zcrx-echo --nodew'",
        "python -m vm bench -- --receivers c",
        "true && scripts/test --tier nonesuch",
        "scripts/per-buffer --round 1",
    ],
)
def test_a_wrong_option_is_refused(line: str) -> None:
    with pytest.raises(click.UsageError):
        refuse(line)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PAGES)))
def test_commands_in_the_text_take_their_options(path: Path) -> None:
    for span in spans(path):
        if span.partition(" ")[0] in STARTS and span not in PROGRAMS:
            # The text names options without their values, and placeholders.
            with suppress(click.MissingParameter, click.BadOptionUsage, click.BadParameter):
                refuse(span)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PAGES)))
def test_options_in_the_text_are_there(path: Path) -> None:
    options = {option for name in PROGRAMS for _, option in public.options(name, PROGRAMS[name])}
    named = {
        option
        for span in spans(path)
        if span.startswith("-")
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)
    }
    assert named <= options


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a b # c", [["a", "b"]]),
        ("a; b && c | d &", [["a"], ["b"], ["c"], ["d"]]),
        ("X=1 sudo a > f 2>&1", [["a", "2"]]),
        ("a 'b; c'\n", [["a", "b; c"]]),
        ("a \\\n b\nc", [["a", "b"], ["c"]]),
    ],
)
def test_lines_are_taken_apart(text: str, found: list[list[str]]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        pytest.param(line, block.how.split()[1:], id=f"{block}: {line}")
        for block in HERE
        for line in commands(block)
    ],
)
def test_what_can_run_here_runs(line: str, statuses: list[str], tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(done.returncode) in statuses, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout

"""How commands end when their output goes nowhere: every command, as a shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pyzcrx.cli import common
from tests.unit import reports
from tests.unit.cli import forked, programs
from tests.unit.cli.programs import MEMBERS, ROOTS, VM, Ended

REPORT = "{folder}/report.json"
PRINTING: dict[str, list[str]] = {
    # Arguments with which a command prints, and changes nothing; others only by --help.
    "zcrx-bench": ["-r", "recv_into-64K", "--rounds", "1", "--size", "64K"],
    "zcrx-bench compare": [REPORT, REPORT],
    "zcrx-doctor": [],
    "zcrx-nic show": ["lo"],
}
KINDS = (forked.FULL, forked.LEFT, forked.CLOSED)


def printing(root: str, folder: Path) -> Iterator[list[str]]:
    for member in MEMBERS:
        if member.words[0] != root:
            continue
        yield [*member.words[1:], "--help"]
        flags = [
            each.opts[-1]
            for each in member.command.params
            if isinstance(each, click.Option) and each.is_flag
        ]
        if "--version" in flags:
            yield [*member.words[1:], "--version"]
        if str(member) in PRINTING:
            base = [*member.words[1:], *(t.format(folder=folder) for t in PRINTING[str(member)])]
            yield base
            yield from ([*base, "--json"] for flag in flags if flag == "--json")


@pytest.mark.parametrize("root", sorted(ROOTS))
def test_output_that_cannot_be_written(root: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(reports.report().to_json())
    words = list(printing(root, tmp_path))
    cases = [(each, kind) for each in words for kind in KINDS]
    for (each, kind), ended in zip(cases, programs.run(root, cases, tmp_path), strict=True):
        what = f"{each} to {kind}"
        assert "Traceback" not in ended.err, (what, ended.err)
        assert "Exception ignored" not in ended.err, (what, ended.err)
        lines = [line for line in ended.err.splitlines() if line != "zcrx-bench"]
        if kind == forked.LEFT:
            assert (ended.status, lines) == (common.READER_LEFT, []), what
        elif root != VM or kind == forked.FULL:
            assert ended.status == (122 if root == VM else 1), (what, ended)
            why = "No space left on device" if kind == forked.FULL else "Bad file descriptor"
            assert len(lines) == 1, (what, ended)
            assert lines[0].endswith(why), (what, ended)


def doctor(arguments: str, redirection: str) -> Ended:
    """In a real shell, with a whole Python."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -P -m pyzcrx.cli.doctor {arguments} {redirection}', sys.executable],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_an_error_that_cannot_be_said_keeps_its_status(redirection: str) -> None:
    assert doctor("--queue 1", redirection) == Ended(2, "", "")
    assert doctor("-i nosuch0", redirection) == Ended(1, "", "")
    assert doctor("--version", redirection).status == 0


def test_a_question_without_an_input_is_a_no() -> None:
    text = SHOUT.replace('click.echo("x" * (1 << 20))', "click.confirm('sure?', err=True)")
    argv = ["sh", "-c", '"$0" -P -c "$1" <&-', sys.executable, text]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sure? [y/N]: Aborted!\n"


def test_an_output_that_is_not_ready_is_waited_for() -> None:
    """Somebody else who has the same open file made it non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    argv = [sys.executable, "-P", "-c", SHOUT]
    with subprocess.Popen(argv, stdout=writer, stderr=subprocess.PIPE, cwd="/") as process:
        os.close(writer)
        with open(reader, "rb") as file:
            said = file.read()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert (process.returncode, said) == (0, b"x" * (1 << 20) + b"\n")


SHOUT = """
import click
from pyzcrx.cli.common import Command
@click.command("shout", cls=Command)
def main():
    click.echo("x" * (1 << 20))
main()
"""


def test_names_of_any_bytes_can_be_printed() -> None:
    argv = [sys.executable, "-P", "-c", SHOUT.replace('"x" * (1 << 20)', r'"\udcff \u20ac"')]
    done = subprocess.run(
        argv,
        capture_output=True,
        cwd="/",
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\udcff \\u20ac\n", b"")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("OverflowError('too large')", "internal error, OverflowError: too large; --debug shows"),
        ("AssertionError()", "internal error, AssertionError; --debug shows where"),
        ("OSError(24, 'Too many open files')", "Too many open files"),
        ("FileNotFoundError(2, 'No such file', 'x\\ny')", "x\\ny: No such file"),
        ("pyzcrx.ZcrxError('of\\nours')", "of\\nours"),
    ],
)
def test_whatever_a_command_raises_is_one_line(raised: str, said: str) -> None:
    text = SHOUT.replace('click.echo("x" * (1 << 20))', f"import pyzcrx; raise {raised}")
    for debug in ([], ["--debug"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", text, *debug],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        if debug:
            assert "Traceback" in done.stderr
        else:
            assert done.stderr.startswith(f"shout: {said}")
            assert done.stderr.count("\n") == 1

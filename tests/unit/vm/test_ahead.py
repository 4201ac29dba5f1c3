"""What is made beside the caller's work: done when it was waited for, its failure told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vm import ahead
from vm.errors import BuildFailed, NoSpace


def test_all_are_made_and_say_so_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def maker(name: str) -> None:
        print(f"making {name}", file=sys.stderr)
        (tmp_path / name).touch()

    with ahead.begun(lambda: maker("a"), lambda: maker("b")) as wait:
        wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    shown = capfd.readouterr()
    assert shown.err == "making a\nmaking b\n"
    assert shown.out == ""


def test_the_first_failure_is_told_with_its_log() -> None:
    def fail() -> None:
        raise NoSpace("the disk is full", ["a line", "another"])

    with (
        pytest.raises(BuildFailed, match="the disk is full") as caught,
        ahead.begun(lambda: None, fail) as wait,
    ):
        wait()
    assert caught.value.details == ("a line", "another")


def test_what_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    """As where the caller's own part fails."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ZeroDivisionError), ahead.begun(pipe.read_text):
        raise ZeroDivisionError

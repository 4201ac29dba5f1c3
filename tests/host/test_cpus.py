"""A CPU that does not exist, given to each option that takes one."""

from __future__ import annotations

import click
import pytest

from tests import commands

NEEDED = {
    ("bench",): (),
    ("echo",): ("--nodev",),
    ("nic", "setup"): ("lo",),
    ("relay",): ("127.0.0.1:9", "--nodev"),
}
OPTIONS = [
    (path, parameter.opts[0])
    for path, parameter in commands.parameters()
    if isinstance(parameter, click.Option) and "cpu" in (parameter.name or "")
]


def test_options_are_found() -> None:
    assert {path for path, _ in OPTIONS} == set(NEEDED)
    assert (("nic", "setup"), "--irq-cpus") in OPTIONS


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=str)
def test_each_option(path: tuple[str, ...], option: str) -> None:
    status, output, errors = commands.run(*path, *NEEDED[path], option, "4095")
    assert (status, output) == (1, "")
    assert "CPU 4095 does not exist (online are " in errors
    assert errors.count("\n") == 1


def test_a_dry_run_says_it_too() -> None:
    status, _, errors = commands.run("nic", "setup", "lo", "--dry-run", "--irq-cpus", "0,4095")
    assert status == 1
    assert "CPU 4095 does not exist" in errors

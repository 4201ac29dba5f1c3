"""Which boots get a second try."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from vm.config import Config
from vm.console import Console
from vm.guest import Guest

PANIC = "[    2.9] BUG: unable to handle page fault\n[    5.4] Kernel panic - not syncing: x\n"


def booting(said: str, *, released: bool = True, append: str = "") -> Guest:
    """A guest whose kernel said that before it was gone."""
    guest: Any = Guest.__new__(Guest)
    guest.config = Config(append=append)
    guest.console = Console()
    guest._boot = SimpleNamespace(kernel=SimpleNamespace(released=released))
    os.write(guest.console.fd, said.encode())
    return guest  # type: ignore[no-any-return]


def test_a_released_kernel_that_panics_gets_one_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guest = booting(PANIC)
    assert guest._emulation_failed()
    said = capsys.readouterr().err
    assert said.startswith("vm: the distribution's kernel died as it booted")
    assert "Kernel panic - not syncing: x" in said
    assert guest.console.text() == ""


@pytest.mark.parametrize(
    ("said", "more"),
    [(PANIC, {"released": False}), (PANIC, {"append": "rdinit=/x"}), ("[ 1.0] all is well\n", {})],
    ids=["a kernel of one's own", "parameters of one's own", "no panic"],
)
def test_others_do_not(said: str, more: dict[str, Any]) -> None:
    guest = booting(said, **more)
    assert not guest._emulation_failed()
    assert guest.console.text() == said

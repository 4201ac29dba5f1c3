"""The generated reference has every public name; a new one is in it by itself.

That the built site has them as well, and that its pages are linked, scripts/docs checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from _site import pages, public

import pyzcrx
from pyzcrx import errors
from pyzcrx._pressure import stats
from pyzcrx._pressure.stats import ReceiverStats
from tests.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
MARKS = {mark for path in REFERENCE.glob("*.rst") for mark in pages.MARK.findall(path.read_text())}
TEXT = "\n".join(pages.filled(path.read_text()) for path in sorted(REFERENCE.glob("*.rst")))


def test_every_part_is_on_a_page() -> None:
    assert set(pages.PARTS) == MARKS


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(KeyError):
        pages.filled(".. generated:: nonesuch\n")


@pytest.mark.parametrize(("module", "name"), [each[:2] for each in public.objects()])
def test_every_public_name_is_in_the_reference(module: str, name: str) -> None:
    assert re.search(rf":: (?:{module}|pyzcrx\.errors)\.{name}$", TEXT, re.MULTILINE)


def test_every_error_is_in_the_reference() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, BaseException)
        and kind.__module__ == errors.__name__
    ]
    assert set(public.error_types()) == set(kinds)
    for kind in kinds:
        assert f".. autoexception:: pyzcrx.errors.{kind.__name__}\n" in TEXT


def test_every_statistics_key_has_a_meaning() -> None:
    rows = dict(re.findall(r"\* - ``(\w+)``\n     - (.+)", pages.statistics()))
    keys = [key for keys in public.statistics_keys().values() for key in keys]
    assert set(rows) == set(keys)
    assert set(ReceiverStats().as_dict()) <= set(rows)
    assert "--" not in rows.values()


def test_every_exit_status_has_a_meaning() -> None:
    used = public.exit_statuses_used(ROOT / "vm", Path(pyzcrx.__file__).parent / "cli")
    statuses = public.exit_statuses()
    assert used <= set().union(*statuses.values())
    assert set(statuses) == set(public.commands())
    for program, meanings in statuses.items():
        assert program in TEXT
        for number, text in meanings.items():
            assert text, (program, number)


def test_every_command_is_in_the_reference() -> None:
    installed = set(
        re.findall(r"^(zcrx-[\w-]+) = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    )
    assert installed == set(public.commands()) - {"python -m vm"}
    for path, _ in public.commands().values():
        assert f".. click:: {path}\n" in TEXT


def test_a_new_name_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fresh:
        """New."""

    monkeypatch.setattr(pyzcrx, "Fresh", Fresh, raising=False)
    monkeypatch.setattr(pyzcrx, "__all__", [*pyzcrx.__all__, "Fresh"])
    assert "autoclass:: pyzcrx.Fresh\n" in pages.PARTS["api"]()


def test_a_new_statistics_key_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class More(stats.ReceiverStats):
        fresh: int = 0

    monkeypatch.setattr(stats, "ReceiverStats", More)
    assert "``fresh``" in pages.statistics()


def test_options_of_subcommands_count_and_hidden_ones_do_not() -> None:
    @click.group()
    def top() -> None: ...

    @top.command()
    @click.option("--one/--no-one", "-o")
    @click.option("--secret", hidden=True)
    def low(one: bool, secret: str) -> None: ...

    assert set(public.options("top", top)) == {
        ("top low", "--one"),
        ("top low", "-o"),
        ("top low", "--no-one"),
    }


def test_statuses_are_read_from_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import sys\nEXIT_A = 9\nsys.exit(0 if x else 3)\nsys.exit(128 + 2)\nsys.exit(y)\n"
        "sys.exit('text')\n"
    )
    assert public.exit_statuses_used(tmp_path) == {0, 3, 9, 130}

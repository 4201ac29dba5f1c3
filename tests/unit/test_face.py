"""What ``import pyzcrx`` shows, and that its texts use the field's words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx import errors, nic

CAUGHT = {
    "AreaExhausted",
    "BufferInUse",
    "ClosedError",
    "KernelError",
    "PeerReset",
    "ZcrxError",
}
ROOT = Path(pyzcrx.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
OURS = re.compile(
    r"(?<![\w.`/-])(?:cards?|mend(?:s|ed)?|patience|notices?)(?![\w`(=-]|\.\w)", re.IGNORECASE
)
"""NIC, fix or hint, timeout, notification. In code they may be names of modules and fields."""


def kinds() -> dict[str, type[BaseException]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }


def texts(source: str) -> Iterator[str]:
    """Messages, help and docstrings: strings that have a blank, f-strings in pieces."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_the_face_is_small() -> None:
    assert len(pyzcrx.__all__) <= 26
    assert {name for name in kinds() if hasattr(pyzcrx, name)} == CAUGHT
    assert set(pyzcrx.__all__) >= CAUGHT


def test_the_errors_come_with_the_package() -> None:
    script = "import pyzcrx; print(pyzcrx.errors.QueueBound.__name__)"
    argv = [sys.executable, "-P", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "QueueBound\n"


def test_the_nics_errors_are_in_nic_too() -> None:
    found = {name for name, kind in kinds().items() if issubclass(kind, errors.NicError)}
    assert len(found) > 5
    assert found <= set(nic.__all__)
    assert all(getattr(nic, name) is kinds()[name] for name in found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_use_the_fields_words(path: Path) -> None:
    found = [text for text in texts(path.read_text()) if OURS.search(text)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("'the card is down'", True),
        ('"""Notices that it is gone."""', True),
        ("f'{name}: mend it'", True),
        ("'the NIC is down'", False),
        ("'card.split'", False),
        ("'see :mod:`pyzcrx.cli.card` for it'", False),
        ("'``card`` is None'", False),
        ("card = 'a discard of wildcards'", False),
    ],
)
def test_code_is_no_text(source: str, found: bool) -> None:
    assert any(OURS.search(text) for text in texts(source)) is found

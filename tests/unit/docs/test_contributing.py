"""CONTRIBUTING's map: what it names is there, and what is there it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MAP = TEXT[TEXT.index("## Architecture") : TEXT.index("One place for each decision:")]
BASES = ("", "pyzcrx", "docs")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:py|c|h|md|json)")
KINDS = ("an errno", "an ifq option", "a request kind", "a driver quirk", "a pressure policy")


def found(path: str) -> Path | None:
    return next((ROOT / b / path for b in BASES if (ROOT / b / path).exists()), None)


def paths(text: str) -> list[str]:
    spans = re.findall(r"`([^`\n]+)`", text)
    return [span for span in spans if PATH.fullmatch(span)]


def row(kind: str) -> str:
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {kind} |")]
    return line


def test_every_path_is_there() -> None:
    assert len(paths(TEXT)) > 60
    assert [path for path in paths(TEXT) if found(path) is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_where_to_add_names_what_is_in_those_files(kind: str) -> None:
    """A class, a function or a table is in one of the files of its row."""
    files = [at for path in paths(row(kind)) if (at := found(path)) is not None and at.is_file()]
    code = "\n".join(file.read_text() for file in files)
    names = [
        name
        for span in re.findall(r"`([^`]+)`", row(kind))
        if not PATH.fullmatch(span)
        for name in [re.split(r"[.(]", span.removesuffix("()"))[-1]]
    ]
    assert files
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


def sources() -> list[str]:
    """Modules of the core's rooms, and files of C."""
    python = (path for path in (ROOT / "pyzcrx").glob("_*/*.py") if path.name != "__init__.py")
    return sorted(path.stem for path in (*python, *(ROOT / "csrc").glob("*.c")))


def test_the_map_names_every_file_of_the_core() -> None:
    assert [name for name in sources() if not re.search(rf"(?<!\w){name}\b", MAP)] == []

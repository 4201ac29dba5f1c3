"""Files that the sources and the README name are there; links between pages Sphinx checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import ROOT

SUFFIXES = {".py", ".md", ".rst", ".c", ".h", ".toml", ".sh"}
FOLDERS = ("csrc", "docs", "examples", "pyzcrx", "scripts", "tests", "vm")
FOREIGN = {"docs/devel/tcg-plugins.rst"}
"""Of other projects."""
NAMED = re.compile(r"\bdocs/[\w/-]+\.(?:md|rst|png|svg)\b")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in SUFFIXES and path.is_file()
] + sorted(ROOT.glob("*.md"))


def test_pages_that_sources_name_are_there() -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in NAMED.findall(path.read_text())
        if name not in FOREIGN
    }
    assert len(named) > 10
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text())
    assert [link for link in links if not (ROOT / Path(link)).exists()] == []

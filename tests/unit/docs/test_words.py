"""The pages use the field's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, sources

FIELD = {
    "card": "NIC",
    "mend": "fix",
    "notice": "notification",
    "told": "reported",
    "so many": "a number",
    "put back": "restore",
}
CODE = re.compile(r"^```.*?^```$|`[^`]*`|<!--.*?-->", re.MULTILINE | re.DOTALL)


def prose(source: str) -> str:
    """The text without code: that has the names of commands and what they print."""
    return CODE.sub("", source)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PAGES)))
def test_no_word_of_our_own_where_the_field_has_one(path: Path) -> None:
    text = prose(path.read_text())
    for word, better in FIELD.items():
        found = re.search(rf"\b{word}s?\b", text, re.IGNORECASE)
        assert found is None, f"{text[max(0, found.start() - 60) : found.end()]!r}: {better}"


def test_code_is_no_prose() -> None:
    assert "card" not in prose("a `card` b\n```text\ncard x\n```\n<!-- card -->\n")
    assert "card" in prose("`a` card `b`")

"""Blocks are found in a page's source, and every block of the pages states how it is tested."""

from __future__ import annotations

import pytest

from tests.pages import LANGUAGES, BadPage, Block, blocks, commands, read

PAGE = """# Title

Text.

<!-- test: program -->
```python
x = 1

```

```text
figure
```
"""
HOWS = {
    "python": {"program", "fragment", "file", "vm", "root", "not run"},
    "sh": {"here", "vm", "not run"},
    "console": {"not run"},
    "text": {""},
}


def kind(block: Block) -> str:
    """The first words of its comment."""
    return "not run" if block.how.startswith("not run: ") else block.how.partition(" ")[0]


def test_blocks_are_read_with_place_language_and_comment() -> None:
    assert read("p.md", PAGE) == [
        Block("p.md", 7, "python", "program", "x = 1\n\n"),
        Block("p.md", 12, "text", "", "figure\n"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1\n",
        "<!-- test: program -->\nno block\n",
        "<!-- test: program -->\n",
        "Text:\n\n    indented\n",
        "* item\n  ```python\n  x\n  ```\n",
        "<!--test: program-->\n",
    ],
    ids=["open", "no block", "at the end", "indented", "in a list", "misspelt"],
)
def test_what_cannot_be_tested_is_refused(text: str) -> None:
    with pytest.raises(BadPage):
        read("p.md", text)


def test_commands_of_a_block() -> None:
    console = Block("p.md", 1, "console", "", "$ one \\\n  --two  # why\noutput\n$ three\n")
    assert commands(console) == ["one   --two", "three"]
    script = Block("p.md", 1, "sh", "", "a 'b\n c' d\n\ne\n")
    assert commands(script) == ["a 'b\n c' d", "e"]


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_states_how_it_is_tested(block: Block) -> None:
    assert block.language in LANGUAGES
    assert kind(block) in HOWS[block.language], f"{block.how!r} is no way to test this"


@pytest.mark.parametrize("block", [b for b in blocks() if kind(b) == "not run"], ids=str)
def test_a_block_that_is_not_run_has_a_reason(block: Block) -> None:
    reason = block.how.removeprefix("not run: ")
    assert len(reason.split()) >= 3
    assert not reason.endswith(".")


def test_the_pages_have_blocks_of_each_kind() -> None:
    found = {(block.language, kind(block)) for block in blocks()}
    assert found == {(language, how) for language, hows in HOWS.items() for how in hows}

"""The code blocks of the README and of docs/, as a reader copies them from the page.

A comment on the line before a block states how it is tested, ``<!-- test: HOW -->``:

======================  ============================================================
python, ``program``     a whole program that receives one stream on port 9999
python, ``fragment``    lines that use names of a receiver: ring, area, ifq, sock...
python, ``file NAME``   a whole program; later shell blocks of the page have it as NAME
python or sh, ``vm``    run from a checkout, in the tier vm
python, ``root``        a program that needs root: run in the guest
sh, ``here STATUS...``  run on this machine; ends with one of these statuses
``not run: REASON``     not run, and why
======================  ============================================================

Shell blocks without a comment, and those that are not run, are parsed: each of our own commands
must accept its options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.shell import lines

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "pages" if (ROOT / "pages").is_dir() else ROOT
"""In a guest the pages are a folder of their own."""
LANGUAGES = {"python", "sh", "console", "text"}
_SPAN = re.compile(r"(?<!`)``?([^`\n]+)``?(?!`)")
_MARK = re.compile(r"<!-- test: (.+) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    """Where its text begins."""
    language: str
    how: str
    """What its comment states; empty without one."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class BadPage(Exception):
    """A page has a block that cannot be told from text, or a comment without a block."""


def read(page: str, text: str) -> list[Block]:
    """The blocks of a page's source. Raises BadPage."""
    blocks: list[Block] = []
    inside: list[str] | None = None
    language, how, begins, before = "", "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            if line == "```":
                blocks.append(Block(page, begins, language, how, "\n".join(inside) + "\n"))
                inside, how = None, ""
            else:
                inside.append(line)
        elif line.startswith("```") and line[3:] != "{toctree}":
            language, begins, inside = line[3:], number + 1, []
        elif line.startswith("```"):
            language, begins, inside, how = "text", number + 1, [], ""
        elif mark := _MARK.fullmatch(line):
            how = mark[1]
        elif how:
            raise BadPage(f"{page}:{number}: a test comment without a block after it")
        elif line.startswith("    ") and not before.strip():
            raise BadPage(f"{page}:{number}: an indented block; fence it, and name its language")
        elif "```" in line or ("test:" in line and "<!--" in line):
            raise BadPage(f"{page}:{number}: a fence or a comment that is not understood")
        before = line
    if inside is not None or how:
        raise BadPage(f"{page}: ends within a block")
    return blocks


def sources() -> list[Path]:
    """Every page written by hand; generated parts have no blocks."""
    docs = PAGES / "docs"
    return [PAGES / "README.md", *sorted(docs.rglob("*.md")), *sorted(docs.rglob("*.rst"))]


def blocks() -> list[Block]:
    """All blocks of all pages."""
    found: list[Block] = []
    for path in sources():
        page = str(path.relative_to(PAGES))
        if path.suffix == ".md":
            found += read(page, path.read_text())
        elif re.search(r"::\s*$|code-block", path.read_text().replace(".. generated::", "")):
            raise BadPage(f"{page}: code belongs into a page of Markdown, where it is tested")
    return found


def spans(path: Path) -> Iterator[str]:
    """The code within a page's text."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in _SPAN.findall(text):
        yield str(span)


def commands(block: Block) -> list[str]:
    """A shell block's command lines; of a console those after ``$ ``, not what they print."""
    if block.language != "console":
        return lines(block.text)
    chosen: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            chosen.append(line[2:])
        elif chosen and chosen[-1].endswith("\\"):
            chosen.append(line)
        else:
            chosen.append("")
    return lines("\n".join(chosen))

"""The loops that docstrings show: a stream that was cut must not look complete in any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pyzcrx

ROOT = Path(pyzcrx.__file__).parent


def docstrings() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}", text


def test_who_waits_for_an_end_handles_a_failure() -> None:
    waits = {where: text for where, text in docstrings() if "case pyzcrx.End(" in text}
    assert "ring.py:Ring" in waits
    assert [where for where, text in waits.items() if "case pyzcrx.Failed(" not in text] == []

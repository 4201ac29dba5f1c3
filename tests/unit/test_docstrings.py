"""What the texts of public functions and methods must have."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyzcrx import errors

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from _site import public

ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value)}


def callables() -> Iterator[tuple[str, Any, str]]:
    """Name, function, and the text that may speak for it: its own, and that of its class."""
    seen: set[Any] = set()
    for module, name, value in public.objects():
        if value in seen or not str(getattr(value, "__module__", "")).startswith("pyzcrx"):
            continue
        seen.add(value)
        if inspect.isfunction(value):
            yield f"{module}.{name}", value, inspect.getdoc(value) or ""
        elif inspect.isclass(value) and not issubclass(value, BaseException):
            text = inspect.getdoc(value) or ""
            for method, found in vars(value).items():
                function = getattr(found, "__func__", getattr(found, "fget", found))
                own = inspect.getdoc(function) or ""
                if (
                    inspect.isfunction(function)
                    and function.__code__.co_filename.endswith(".py")  # not a dataclass's
                    and not overrides(value, method)
                    and (not method.startswith("_") or method == "__init__")
                    and not own.startswith("Use ")  # users don't call it
                ):
                    yield f"{module}.{name}.{method}", function, f"{own}\n{text}"


def overrides(kind: type, method: str) -> bool:
    """Whether a class of others says what *method* takes."""
    others = [base for base in kind.__mro__ if not base.__module__.startswith("pyzcrx")]
    return method != "__init__" and any(method in vars(base) for base in others)


CASES = {name: (function, text) for name, function, text in callables()}


def raised(function: Any) -> set[str]:
    """Errors of the package that its own body raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    } & ERRORS


@pytest.mark.parametrize("name", CASES)
def test_it_has_a_text(name: str) -> None:
    function, _ = CASES[name]
    assert name.endswith("__init__") or inspect.getdoc(function)


@pytest.mark.parametrize("name", CASES)
def test_its_parameters_are_named(name: str) -> None:
    function, text = CASES[name]
    names = [
        n for n in inspect.signature(function).parameters if n not in ("self", "cls", "sock", "_")
    ]
    assert [n for n in names if not re.search(rf"\b{n.lstrip('_')}\b", text)] == []


@pytest.mark.parametrize("name", CASES)
def test_what_it_raises_is_named(name: str) -> None:
    function, text = CASES[name]
    assert {each for each in raised(function) if each not in text} == set()

"""Names of the package that the pages' text has are there: a rename is made in the text as well."""

from __future__ import annotations

import builtins
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx import aio, errors, nic, testing, types
from tests.pages import PAGES, sources, spans

MODULES = (pyzcrx, errors, types, nic, testing, aio)
OBJECTS = {
    "ring": pyzcrx.Ring,
    "Ring": pyzcrx.Ring,
    "ifq": pyzcrx.Ifq,
    "Ifq": pyzcrx.Ifq,
    "batch": pyzcrx.Batch,
    "Batch": pyzcrx.Batch,
    "buffer": pyzcrx.Buffer,
    "area": pyzcrx.Area,
    "Area": pyzcrx.Area,
    "setup": nic.Setup,
}
"""What an object of this name is, in the pages."""
NOT_OURS = {"Documentation", "SystemCallFilter"}


def has(kind: type, name: str) -> bool:
    """Whether objects of this class have it; what __init__ sets stands in the source."""
    return hasattr(kind, name) or any(
        re.search(rf"\bself\.{name}\b", inspect.getsource(base))
        for base in kind.__mro__
        if base.__module__.startswith("pyzcrx.") and base.__module__ != "pyzcrx._lease"
    )


def callables(name: str) -> list[Any]:
    """What a call of this name may be."""
    found = [getattr(module, name, None) for module in MODULES]
    found += [getattr(kind, name, None) for kind in OBJECTS.values()]
    return [each for each in found if callable(each)]


def wrong(span: str) -> list[str]:
    """The names in a span of code that the package has not."""
    bad = []
    for name in re.findall(r"(?<![\w./-])[A-Z][a-z]+(?:[A-Z][a-z]+)*\b(?![\w-])", span):
        if name in NOT_OURS or hasattr(builtins, name):
            continue
        if not any(hasattr(module, name) for module in MODULES):
            bad.append(name)
    for owner, name in re.findall(r"\b(\w+)\.(\w+)", span):
        if owner in OBJECTS and not has(OBJECTS[owner], name):
            bad.append(f"{owner}.{name}")
    for function, argument in re.findall(r"\b(\w+)\((\w+)=", span):
        known = callables(function)
        if known and not any(argument in inspect.signature(each).parameters for each in known):
            bad.append(f"{function}({argument}=)")
    return bad


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PAGES)))
def test_names_in_the_text_are_there(path: Path) -> None:
    assert {span: bad for span in spans(path) if (bad := wrong(span))} == {}


@pytest.mark.parametrize(
    "span",
    ["NoSuchName", "Failed(NoSuchName)", "ifq.nonesuch()", "ring.nonesuch", "Ring(nonesuch=1)"],
)
def test_a_name_that_is_not_there_is_found(span: str) -> None:
    assert wrong(span)


@pytest.mark.parametrize(
    "span", ["BufferInUse", "ifq.stats().bytes", "register_ifq(pressure=)", "ethtool -S", "a.Bc"]
)
def test_other_spans_are_no_trouble(span: str) -> None:
    assert not wrong(span)

"""The generated parts of the reference, as reStructuredText.

A page holds a line ``.. generated:: NAME`` where the text of ``PARTS[NAME]`` goes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from _site import public
from pyzcrx import types
from pyzcrx._kernel.meanings import meanings
from pyzcrx.errors import errno_name

MARK = re.compile(r"^\.\. generated:: (\S+)$", re.MULTILINE)


def _heading(text: str, line: str) -> list[str]:
    return ["", text, line * len(text), ""]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "") -> list[str]:
    lines = ["", ".. list-table::", "   :header-rows: 1"]
    lines += [f"   :widths: {widths}", ""] if widths else [""]
    for row in (header, *rows):
        for i, cell in enumerate(row):
            lines.append(f"   {'* -' if i == 0 else '  -'} {cell}")
    return [*lines, ""]


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", text)


# -- the API --------------------------------------------------------------------

GROUPS = (
    ("The ring and its requests", ("Ring", "Request", "Stream", "Accept", "Send")),
    ("The interface queue and its memory", ("Ifq", "Area", "RefillQueue")),
    ("Received data", ("Buffer", "Batch", "Run", "Chunk")),
    ("Events", ("Event", "Data", "End", "Limit", "Failed", "Accepted", "Sent")),
    ("Pressure", ("Pressure", "AreaAdvice", "area_advice", "Holder")),
    ("Figures and checks", ("ReceiverStats", "Audit", "Probe", "Presence", "probe")),
)
"""How the names of ``pyzcrx`` are grouped; what is in no group comes in the last one."""


def _document(module: str, name: str, value: Any) -> list[str]:
    path = f"{module}.{name}"
    if inspect.isclass(value) and issubclass(value, BaseException):
        return [f".. autoexception:: {path}", "   :show-inheritance:", ""]
    if inspect.isclass(value):
        return [
            f".. autoclass:: {path}",
            "   :members:",
            "   :undoc-members:",
            "   :inherited-members: Exception, OSError, tuple, object, str",
            "",
        ]
    if inspect.isroutine(value):
        return [f".. autofunction:: {path}", ""]
    return [f".. autodata:: {path}", "   :no-value:", ""]


def api_top() -> str:
    """What ``pyzcrx`` itself has, but for the errors, and the types of what it returns."""
    module = importlib.import_module("pyzcrx")
    errors = {kind.__name__ for kind in public.error_types()}
    homes = dict.fromkeys(public.names(types), "pyzcrx.types")
    homes |= {name: "pyzcrx" for name in public.names(module) if name not in errors}
    left = list(homes)
    lines: list[str] = []
    for title, members in (*GROUPS, ("More", tuple(left))):
        chosen = [name for name in members if name in left]
        if not chosen:
            continue
        lines += _heading(title, "-")
        for name in chosen:
            home = importlib.import_module(homes[name])
            lines += _document(homes[name], name, getattr(home, name))
            left.remove(name)
    return "\n".join(lines)


def api_of(module_name: str) -> str:
    """What a module has; its errors are on the errors' page."""
    module = importlib.import_module(module_name)
    errors = public.error_types()
    lines: list[str] = []
    for name in public.names(module):
        value = getattr(module, name)
        if value not in errors:
            lines += _document(module_name, name, value)
    return "\n".join(lines)


def api_further() -> str:
    lines: list[str] = []
    for module_name in public.FURTHER:
        module = importlib.import_module(module_name)
        lines += _heading(module_name, "-")
        lines += [(inspect.getdoc(module) or "").partition("\n")[0], ""]
        lines += [api_of(module_name), ""]
    return "\n".join(lines)


# -- errors ---------------------------------------------------------------------


def errors_by_errno() -> str:
    """A table for each errno: operation, error, cause, fix."""
    rows: dict[int, list[tuple[str, str, str, str]]] = {}
    for operation, row in meanings().items():
        for number, (kind, cause, fix) in row.items():
            where = operation or "any other"
            error = f":class:`~pyzcrx.errors.{kind.__name__}`"
            rows.setdefault(number, []).append((where, error, _escaped(cause), _escaped(fix)))
    lines: list[str] = []
    for number in sorted(rows, key=errno_name):
        lines += _heading(errno_name(number), "~")
        lines += [f"*{os.strerror(number)}* ({number})", ""]
        lines += _table(("operation", "error", "cause", "fix"), rows[number], "15 17 38 30")
    return "\n".join(lines)


def error_types() -> str:
    lines: list[str] = []
    for kind in public.error_types():
        lines += [
            f".. autoexception:: pyzcrx.errors.{kind.__name__}",
            "   :members:",
            "   :show-inheritance:",
            "",
        ]
    return "\n".join(lines)


def error_helpers() -> str:
    """What pyzcrx.errors has beside the errors."""
    kinds = set(public.error_types())
    module = importlib.import_module("pyzcrx.errors")
    lines: list[str] = []
    for name in public.names(module):
        value = getattr(module, name)
        if value not in kinds:
            lines += _document("pyzcrx.errors", name, value)
    return "\n".join(lines)


def error_names() -> str:
    """Every error with the errnos that become it."""
    numbers: dict[str, set[str]] = {}
    for row in meanings().values():
        for number, (kind, _, _) in row.items():
            numbers.setdefault(kind.__name__, set()).add(errno_name(number))
    rows = [
        (
            f":class:`~pyzcrx.errors.{kind.__name__}`",
            ", ".join(sorted(numbers.get(kind.__name__, ()))) or "--",
            (inspect.getdoc(kind) or "--").partition("\n")[0],
        )
        for kind in public.error_types()
    ]
    return "\n".join(_table(("error", "errno", "meaning"), rows, "20 25 55"))


# -- commands, statistics, statuses ----------------------------------------------


def commands() -> str:
    lines: list[str] = []
    for program, (path, _) in public.commands().items():
        lines += [f".. click:: {path}", f"   :prog: {program}", "   :nested: full", ""]
    return "\n".join(lines)


def statistics() -> str:
    lines: list[str] = []
    keys = public.statistics_keys()
    notes = {name: _attribute_notes(kind) for name, kind in public.statistics_types().items()}
    for member, names in keys.items():
        if member:
            lines += _heading(f"In ``{member}``", "-")
        rows = [
            (
                f"``{name}``",
                _escaped(notes.get(member, {}).get(name) or public.PLAIN_KEYS.get(name, "--")),
            )
            for name in names
        ]
        lines += _table(("key", "meaning"), rows, "25 75")
    return "\n".join(lines)


def _attribute_notes(kind: type) -> dict[str, str]:
    """The strings that stand below a dataclass's fields in its source."""
    if not is_dataclass(kind):
        return {}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    names = {field.name for field in fields(kind)}
    found: dict[str, str] = {}
    before = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            before = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if before in names and isinstance(node.value.value, str):
                found[before] = " ".join(node.value.value.split())
            before = ""
    return found


def exit_statuses() -> str:
    lines: list[str] = []
    for program, statuses in public.exit_statuses().items():
        lines += _heading(program, "-")
        rows = [(str(number), _escaped(text)) for number, text in statuses.items()]
        lines += _table(("status", "meaning"), rows, "15 85")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "api": api_top,
    "api-nic": lambda: api_of("pyzcrx.nic"),
    "api-testing": lambda: api_of("pyzcrx.testing"),
    "api-further": api_further,
    "error-names": error_names,
    "errors-by-errno": errors_by_errno,
    "error-types": error_types,
    "error-helpers": error_helpers,
    "commands": commands,
    "statistics": statistics,
    "exit-statuses": exit_statuses,
}


def filled(source: str) -> str:
    """*source* with each mark replaced. Raises KeyError for a name that is none of PARTS."""
    return MARK.sub(lambda match: PARTS[match[1]](), source)

"""Every place of the package that keeps a descriptor, and why another file cannot be met there.

The number of a closed descriptor is soon that of another file. So what is kept is an object
that owns it (a Descriptor, a socket), or a number that is used for nothing but a message.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pyzcrx

ROOT = Path(pyzcrx.__file__).parent

MESSAGE = "for messages; what is used is a Descriptor"
OWNS = "ours alone: nobody else is told of the number"
KEPT = {
    "_ring.outcomes:Accepted.fd": "the user's own from the event on",
    "_send.accept:Accept.fd": MESSAGE,
    "_send.send:Send.fd": MESSAGE,
    "aio.attach:Attached._fd": "of the ring, which has the loop forget it before it closes",
    "aio.selector:_Poll.fd": "asyncio's own, which it unregisters before it closes it",
    "cli.acceptor:Acceptor._reserve": OWNS,
    "cli.server:Connection.fd": "accepted by the server, and closed only by it",
    "record.file:RecordFile._fd": OWNS,
    "record.mark:Mark._fd": "of the RecordFile that has the mark, and closes the number",
    "testing.rings:ModelRing.fd": OWNS,
    "testing.requests:Poll.fd": "a test's own",
}
"""Attributes that hold a number (or what looks like one), each with the reason."""

SOURCES = ("fileno", "detach", "dup", "pipe", "pipe2", "eventfd", "memfd_create", "number_of")
"""Calls that give numbers."""
NAMES = {"fd", "listener_fd", "ring_fd"}
"""What parameters that are numbers are called."""


def gives_a_number(value: ast.expr) -> bool:
    if isinstance(value, ast.Name):
        return value.id in NAMES
    if isinstance(value, ast.Call):
        called = value.func.attr if isinstance(value.func, ast.Attribute) else ""
        called = value.func.id if isinstance(value.func, ast.Name) else called
        opens = isinstance(value.func, ast.Attribute) and ast.unparse(value.func) == "os.open"
        return opens or called in SOURCES
    return isinstance(value, ast.IfExp) and (
        gives_a_number(value.body) or gives_a_number(value.orelse)
    )


def kept() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.py")):
        module = str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for owner in ast.walk(ast.parse(path.read_text())):
            if not isinstance(owner, ast.ClassDef):
                continue
            for node in ast.walk(owner):
                targets, value = [], None
                if isinstance(node, ast.Assign):
                    targets, value = node.targets, node.value
                elif isinstance(node, ast.AnnAssign):
                    targets, value = [node.target], node.value
                    if isinstance(node.target, ast.Name) and node.target.id in NAMES:
                        yield f"{module}:{owner.name}.{node.target.id}"  # a dataclass's field
                if value is None or not gives_a_number(value):
                    continue
                for target in targets:
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                        yield f"{module}:{owner.name}.{target.attr}"


def test_every_number_that_is_kept_has_its_reason() -> None:
    assert set(kept()) == set(KEPT)

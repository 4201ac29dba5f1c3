"""An interface by any of its names, wherever a name is taken: in calls and on command lines."""

from __future__ import annotations

import ctypes
import dataclasses
import inspect
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import click
import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx._kernel.interface import find
from tests import commands
from tests.patience import START_S

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="expected: only root can name an interface"
)
CLONE_NEWNET = 0x40000000
LONG, SHORT, LONGEST = "a-long-alternative-name0", "short-alt0", "x" * 127
Submit = Callable[..., Any]


@pytest.fixture(scope="module")
def inside() -> Iterator[Submit]:
    """Calls something in a thread with its own network namespace, whose loopback has names."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        for name in (LONG, SHORT, LONGEST):
            argv = ["ip", "link", "property", "add", "dev", "lo", "altname", name]
            subprocess.run(argv, check=True)

    with ThreadPoolExecutor(1, initializer=enter) as pool:
        yield lambda call, *arguments: pool.submit(call, *arguments).result(START_S)


@pytest.mark.parametrize("name", [LONG, SHORT, LONGEST])
def test_found_by_an_alternative_name(inside: Submit, name: str) -> None:
    assert inside(find, name) == inside(find, "lo")


@pytest.mark.parametrize("name", [LONG[:-1], LONG[:15], LONG + "0", LONGEST[:-1], LONGEST + "x"])
def test_a_part_of_a_name_is_none(inside: Submit, name: str) -> None:
    with pytest.raises(pyzcrx.errors.NoSuchInterface):
        inside(find, name)


# -- calls ----------------------------------------------------------------------


def _register(name: str | int) -> object:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 16) as area:
        return ring.register_ifq(area, interface=name, rx_queue=0)


def _state(name: str | int) -> nic.State:
    with nic.Reader() as reader:
        return reader.state(name)


CALLS: dict[str, Callable[[Any], object]] = {
    "Ring.register_ifq": _register,
    "area_advice": pyzcrx.area_advice,
    "nic.Reader.state": _state,
    "nic.Setup": lambda name: nic.Setup(name, nic.Wanted()),
    "nic.prepare": nic.prepare,
    "nic.read": nic.read,
    "nic.restore": nic.restore,
}


def taking_an_interface() -> Iterator[str]:
    """Every public call with a parameter of that name, but for those that only hold data."""
    for prefix, module in (("", pyzcrx), ("nic.", nic)):
        for name in module.__all__:
            item = getattr(module, name)
            calls = {name: item} if callable(item) and not dataclasses.is_dataclass(item) else {}
            if inspect.isclass(item):
                methods = inspect.getmembers(item, inspect.isfunction)
                calls |= {f"{name}.{m}": f for m, f in methods if not m.startswith("_")}
            for called, call in calls.items():
                with suppress(ValueError):  # a type of the extension has no signature
                    if "interface" in inspect.signature(call).parameters:
                        yield prefix + called


def test_every_call_is_tried() -> None:
    assert set(taking_an_interface()) == set(CALLS)


def outcome(call: Callable[[Any], object], name: str) -> tuple[object, ...]:
    try:
        return (call(name),)
    except pyzcrx.ZcrxError as error:
        return type(error), str(error)


@pytest.mark.parametrize("call", CALLS)
def test_calls(inside: Submit, call: str) -> None:
    by_name = inside(outcome, CALLS[call], "lo")
    assert by_name[0] is not pyzcrx.errors.NoSuchInterface
    for other in (LONG, SHORT):
        assert inside(outcome, CALLS[call], other) == by_name
    for unknown in ("nosuch0", LONG + "0"):
        kind, text = inside(outcome, CALLS[call], unknown)
        assert kind is pyzcrx.errors.NoSuchInterface
        assert f"({unknown}): ENODEV: no such interface" in text


# -- commands -------------------------------------------------------------------


NEEDED = {"relay": ("127.0.0.1:9",), "recv": ("-o", f"{tempfile.gettempdir()}/no-file-of-ours")}
"""Arguments without which a command does not look at its interface."""
COMMANDS = [
    (
        *(*path, *NEEDED.get(path[0], ())),
        *(parameter.opts[:1] if isinstance(parameter, click.Option) else ()),
    )
    for path, parameter in commands.parameters()
    if parameter.name == "interface"
]


def test_commands_are_found() -> None:
    assert {argv[0] for argv in COMMANDS} == {"bench", "doctor", "echo", "nic", "recv", "relay"}
    assert ("nic", "restore") in COMMANDS


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_commands(inside: Submit, argv: tuple[str, ...]) -> None:
    by_name = inside(commands.run, *argv, "lo")
    assert "ENODEV" not in by_name[2]
    assert inside(commands.run, *argv, LONG) == by_name
    status, _, errors = inside(commands.run, *argv, LONG + "0")
    assert (status, errors.count("\n")) == (1, 1)
    assert f"find interface ({LONG}0): ENODEV: no such interface" in errors

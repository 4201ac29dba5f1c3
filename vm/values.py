"""The values that options take; each type refuses at once what it cannot mean.

As ``pyzcrx.cli.values``, which needs pyzcrx, and that may not be built here yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from vm.archive import VERSION
from vm.choice import DEBIAN, STOCK
from vm.config import Share, check_vfio
from vm.errors import InvalidRequest, VmError

LEAST_SECONDS, MOST_SECONDS = 0.001, 1e9
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)

if TYPE_CHECKING:
    AnyType = click.ParamType[Any]
else:
    AnyType = click.ParamType  # not generic before click 8.2


class Number(click.IntRange):
    """A whole number between two bounds, in decimal digits."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


def _seconds(text: str, least: float = LEAST_SECONDS) -> float:
    """At most some 30 years."""
    with suppress(ValueError):
        number = float(text)
        # Not left to float(): it takes 1_0 and other scripts' digits.
        if re.fullmatch(r"[-+0-9.eE]{1,30}", text) and least <= number <= MOST_SECONDS:
            return number
    raise InvalidRequest(f"{text!r} is not a number of seconds")


class Text(AnyType):
    """A text that *parse* understands: it gives the value, or raises a VmError."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except VmError as error:
            said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))
            self.fail("\n  ".join((said, *error.details)), param, ctx)
        except OSError as error:  # a name that is too long, a folder that may not be read
            self.fail(f"{value!r}: {error.strerror}", param, ctx)


def _kernel(text: str) -> str:
    version = text.removeprefix(DEBIAN)
    if text != STOCK and (version == text or not re.fullmatch(VERSION, version)):
        if not text.strip() or not Path(text).exists():
            raise InvalidRequest(f"no kernel at {text!r}")
        if not (Path(text).is_file() or Path(text).is_dir()):
            raise InvalidRequest(f"{text!r} is no file and no folder")
    return text


def _wheel(text: str) -> str:
    if text not in ("auto", "none") and not (text.endswith(".whl") and Path(text).is_file()):
        raise InvalidRequest(f"no wheel at {text}")
    return text


def _parameters(text: str) -> str:
    if text and not (text.isascii() and text.isprintable() and text.strip()):
        raise InvalidRequest(f"{text!r} are no kernel parameters")
    return text


def _plugin(text: str) -> str:
    if not Path(text.partition(",")[0]).is_file():
        raise InvalidRequest(f"no plugin at {text.partition(',')[0]!r}")
    return text


def _receiver(text: str) -> str:
    if not re.fullmatch(r"[a-z][A-Za-z0-9_-]{0,63}", text):
        raise InvalidRequest(f"{text!r} is no receiver; see zcrx-bench --help")
    return text


def _took(text: str) -> tuple[str, float]:
    step, equals, number = text.partition("=")
    if not step.isidentifier() or not equals:
        raise InvalidRequest(f"{text!r} is not STEP=SECONDS")
    return step, _seconds(number, 0.0)


def _selftest(text: str) -> str:
    path = PurePosixPath(text)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]{2,250}", text) or ".." in path.parts:
        raise InvalidRequest(f"{text!r} is no path below tools/testing/selftests")
    if len(path.parts) < 2:
        raise InvalidRequest(f"{text!r} is no path below tools/testing/selftests")
    return text


def _output(text: str) -> Path:
    """A file that can be written; it stays as it is."""
    path = Path(text)
    if not text.strip() or path.is_dir():
        raise InvalidRequest(f"{text!r} is not the name of a file")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        path.unlink()
    except FileExistsError:
        if not path.is_fifo():  # opening it would wait for its reader
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    return path


def _folder(text: str) -> Path:
    if not text.strip() or not Path(text).is_dir():
        raise InvalidRequest(f"no folder {text!r}")
    return Path(text)


def _modules(text: str) -> Path:
    return Path(text) if text.endswith(".deb") and Path(text).is_file() else _folder(text)


SECONDS = Text("seconds", _seconds)
KERNEL_NAME = Text("kernel", _kernel)
MODULES = Text("folder", _modules)
SHARE = Text("share", Share.parse)
WHEEL = Text("wheel", _wheel)
PARAMETERS = Text("parameters", _parameters)
DEVICE = Text("device", check_vfio)
PLUGIN = Text("plugin", _plugin)
RECEIVER = Text("receiver", _receiver)
TOOK = Text("step", _took)
SELFTEST = Text("test", _selftest)
OUTPUT_FILE = Text("file", _output)
FOLDER = Text("folder", _folder)

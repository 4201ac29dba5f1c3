"""The values that options take. Each type refuses, while the command line is read, what it
cannot mean; a number has a least and a most."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyzcrx._kernel import endpoint
from pyzcrx.cli.common import Failure
from pyzcrx.cli.streams import one_line
from pyzcrx.errors import BadArgument, ZcrxError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,18})([KMG]?)(?:I?B)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_DECIMAL = re.compile(r"[-+0-9.eE]{1,30}")

MOST_BYTES = 1 << 48
"""More than a process can address."""
LEAST_SECONDS, MOST_SECONDS = 0.001, 1e9
MOST_U32 = (1 << 32) - 1


if TYPE_CHECKING:
    IntType = click.ParamType[int]
    TextType = click.ParamType[str]
    AnyType = click.ParamType[Any]
else:
    IntType = TextType = AnyType = click.ParamType  # not generic before click 8.2


class Number(click.IntRange):
    """A whole number between two bounds, in decimal digits."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


QUEUE = Number(0, MOST_U32)
CPU = Number(0, (1 << 16) - 1)
PORT = Number(0, 65535)


class Seconds(click.FloatRange):
    """A time between a millisecond and some 30 years."""

    def __init__(self) -> None:
        super().__init__(LEAST_SECONDS, MOST_SECONDS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # Not left to float(): NaN is in every range, as no comparison with it holds.
        if isinstance(value, str) and not _DECIMAL.fullmatch(value):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return super().convert(value, param, ctx)


SECONDS = Seconds()


class Size(IntType):
    """Bytes, with K, M or G (powers of 1024) behind the number."""

    name = "size"

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.min, self.max = 1, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).upper())
        if found is None:
            self.fail(f"{value!r} is not a size; write 65536, 64K, 64M or 1G", param, ctx)
        size_bytes = int(found[1]) * _UNITS[found[2]]
        if not self.min <= size_bytes <= self.max:
            self.fail(f"{value!r} is not between {self.min} and {self.max} bytes", param, ctx)
        return size_bytes


SIZE = Size()
BUFFER_SIZE = Size((1 << 31) - 1)
"""Of what the kernel has 32 bits for: a buffer's length, SO_RCVBUF."""


class Text(AnyType):
    """A text that *parse* understands: it gives the value, or raises a ZcrxError.

    as_usage: that is a wrong command line, with status 2; otherwise an error as the library's
    others, with status 1.
    """

    def __init__(self, name: str, parse: Callable[[str], Any], *, as_usage: bool = True) -> None:
        self.name = name
        self._parse = parse
        self._as_usage = as_usage

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ZcrxError as error:
            if ctx is not None and not self._as_usage:
                raise Failure(ctx, str(error)) from None
            self.fail(one_line(str(error)), param, ctx)


class Name(TextType):
    """A word that *shape* matches wholly."""

    def __init__(self, name: str, shape: str, what: str) -> None:
        self.name = name
        self._shape = re.compile(shape)
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._shape.fullmatch(value) or value in (".", ".."):
            self.fail(f"{value!r} is not {self._what}", param, ctx)
        return str(value)


INTERFACE = Name(
    # net/core/dev.c:dev_valid_name(); ALTIFNAMSIZ for alternative names.
    "interface",
    r"(?!-)[^\s/:\x00-\x1f\x7f\ud800-\udfff]{1,127}",
    "the name of a network interface; see ip link",
)
HOST = Text("host", endpoint.checked, as_usage=False)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise BadArgument(f"{text!r} is no HOST:PORT, with a port of 1 to 65535")
    if ":" in host and host[0] != "[":
        raise BadArgument(f"{text!r} is no HOST:PORT: write an IPv6 address in brackets")
    return endpoint.checked(host), int(port)


ADDRESS = Text("host:port", _host_and_port)


def _module(text: str) -> str:
    try:
        found = all(map(str.isidentifier, text.split("."))) and find_spec(text) is not None
    except ImportError:  # its package is no package
        found = False
    if not found:
        raise BadArgument(f"{text!r} is no module that can be imported; see PYTHONPATH")
    return text


MODULE = Text("module", _module)


class NetNs(Name):
    """A network namespace that ``ip netns`` made."""

    FOLDER = Path("/run/netns")

    def __init__(self) -> None:
        super().__init__("name", r"[^\s/\x00-\x1f\x7f]{1,255}", "the name of a network namespace")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = super().convert(value, param, ctx)
        try:
            os.stat(self.FOLDER / name)
        except OSError:
            self.fail(f"there is no network namespace {name!r}; see ip netns", param, ctx)
        return name


class ReportFile(click.Path):
    """A file to be read; the command says what is wrong with it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail(f"{value!r} is not the name of a file", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(click.Path):
    """A file that can be written, as far as that can be seen beforehand. It stays as it is."""

    def __init__(self, suffix: str = "") -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self._suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail(f"{value!r} is not the name of a file", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.name.lower().endswith(self._suffix):
            self.fail(f"{str(path)!r} does not end in {self._suffix}", param, ctx)
        try:
            _try_to_write(path)
        except OSError as error:
            self.fail(f"{str(path)!r} cannot be written: {error.strerror}", param, ctx)
        return path


def _try_to_write(path: Path) -> None:
    """Raises the OSError that opening it for output would meet."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        path.unlink()
        return
    if stat.S_ISFIFO(path.stat().st_mode):
        return  # opening would wait for its reader, or be told that there is none yet
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

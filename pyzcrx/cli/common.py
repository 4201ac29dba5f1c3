"""What the commands share: sizes, one-line errors, figures as people read them."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pyzcrx.errors import ZcrxError
from pyzcrx.stats import ReceiverStats

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


if TYPE_CHECKING:
    ParamType = click.ParamType[int]
else:
    ParamType = click.ParamType  # not generic before click 8.2


class Size(ParamType):
    """Bytes, with K, M or G (powers of 1024) behind the number."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("IB").removesuffix("B")
        number, unit = (text[:-1], text[-1]) if text[-1:] in ("K", "M", "G") else (text, "")
        if not number.isdecimal() or not int(number):
            self.fail(f"{value!r} is not a size; write 65536, 64K, 64M or 1G", param, ctx)
        return int(number) * _UNITS[unit]


SIZE = Size()


Command = Callable[..., None]


def one_line_errors(program: str) -> Callable[[Command], Command]:
    """Errors of ours end the program with status 1 and one line; a traceback with ``--debug``.

    Warnings are a line each, too.
    """

    def decorate(command: Command) -> Command:
        @click.option("--debug", is_flag=True, help="Show a traceback with an error.")
        @functools.wraps(command)
        def wrapped(*args: Any, debug: bool, **kwargs: Any) -> None:
            def show(message: Warning | str, *_: Any, **__: Any) -> None:
                click.echo(f"{program}: warning: {message}", err=True)

            try:
                with warnings.catch_warnings():
                    warnings.showwarning = show
                    command(*args, **kwargs)
            except ZcrxError as error:
                if debug:
                    raise
                click.echo(f"{program}: {error}", err=True)
                sys.exit(1)

        return wrapped

    return decorate


def size_text(size_bytes: float) -> str:
    """``64.0 MiB``"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"


def share_text(part: int | None, whole: int) -> str:
    """``12.5%``, or ``unknown`` where the kernel cannot tell."""
    if part is None:
        return "unknown"
    return f"{100 * part / whole:.1f}%" if whole else "0%"


def stats_text(stats: ReceiverStats) -> str:
    """A receiver's figures in one line."""
    rate = stats.bytes / stats.seconds if stats.seconds else 0
    connections = f"{stats.connections} connection{'' if stats.connections == 1 else 's'}"
    return (
        f"{stats.seconds:.1f} s: {size_text(stats.bytes)} in {stats.buffers} buffers over "
        f"{connections}, {size_text(rate)}/s; "
        f"zero-copied {share_text(stats.bytes_zero_copy, stats.bytes)}, "
        f"copied {share_text(stats.bytes_copied, stats.bytes)}; "
        f"{stats.rearms} rearms, {stats.held_buffers} buffers held"
    )


def stats_json(stats: ReceiverStats, **more: Any) -> str:
    """A receiver's figures, and *more* of a command's own, as one line of JSON."""
    return json.dumps(stats.as_dict() | more)

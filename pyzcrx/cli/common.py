"""What the commands share: how they end, and figures as people read them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx.cli.streams import OutputLost, checked_streams, one_line
from pyzcrx.errors import ZcrxError

FAILED = 1
READER_LEFT = 128 + 13
"""As a shell reports a program that SIGPIPE ended."""
_DEBUG = "pyzcrx._receive.debug"


class Failure(click.ClickException):
    """An error of a command, as its one line."""

    exit_code = FAILED

    def __init__(self, ctx: click.Context, text: str) -> None:
        super().__init__(text)
        self._program = ctx.find_root().command.name

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        click.echo(f"{self._program}: {one_line(self.message)}", err=True)


class Command(click.Command):
    """A command of ours, with ``--debug``; every way that it can end is decided here.

    * An error is one line on standard error and status 1, a wrong command line status 2.
    * Output that cannot be written is such an error; where the reader has left (EPIPE), the
      command ends without a word and with status 141, as SIGPIPE would end it.
    * A warning is one line, too.

    The name of the outermost command is the program's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_note_debug,
                help="Show a traceback with an error.",
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line_errors(ctx):
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        with checked_streams() as errors:
            status = self._run(*args, **kwargs | {"standalone_mode": False})
            if errors is not None and errors.lost and not status:
                status = FAILED
            sys.exit(status)

    def _run(self, *args: Any, **kwargs: Any) -> int:
        """The exit status."""
        try:
            try:
                status = super().main(*args, **kwargs) or 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else FAILED if end.code else 0
            sys.stdout.flush()
            return status
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            click.echo("Aborted!", err=True)
            return FAILED
        except OutputLost as error:
            if error.reader_left:
                return READER_LEFT
            click.echo(f"{self.name}: {error}", err=True)
            return FAILED


class Group(Command, click.Group):
    """Several commands under one name."""

    command_class = Command


def _note_debug(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    if given:
        ctx.meta[_DEBUG] = True


@contextmanager
def _one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Errors within the block as a Failure; unchanged with ``--debug``."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        click.echo(f"{ctx.find_root().command.name}: warning: {one_line(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        except (OutputLost, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.meta.get(_DEBUG):
                raise
            raise Failure(ctx, _text(error)) from error


def _text(error: Exception) -> str:
    if isinstance(error, ZcrxError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"internal error, {what}; --debug shows where"


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

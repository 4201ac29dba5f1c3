"""Options that several of the commands which receive have in common, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from pyzcrx.cli.card import CardOptions, card_options
from pyzcrx.cli.values import BUFFER_SIZE, HOST, PORT, SECONDS, SIZE, Number

F = TypeVar("F", bound=Callable[..., Any])
ZeroCopy = Literal["auto", "always", "never"]
ZERO_COPY: dict[ZeroCopy, bool | None] = {"auto": None, "always": True, "never": False}


def receiver_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where to listen, and on which NIC or none: ``host``, ``port``, ``card`` and ``nodev``."""
    command = click.option(
        "--nodev",
        is_flag=True,
        help="No NIC: the kernel copies what is received. On any interface.",
    )(command)
    command = card_options(command)
    command = click.option(
        "-p",
        "--port",
        default=9999,
        show_default=True,
        type=PORT,
        help="Port to listen on; 0: any free one.",
    )(command)
    return click.option("--host", type=HOST, help="Address to listen on.  [default: all]")(command)


def check_receiver(card: CardOptions, *, nodev: bool) -> None:
    """Raises UsageError for a NIC that cannot be meant."""
    if nodev == (card.given is not None):
        raise click.UsageError("give either --interface or --nodev")
    card.check()


def figures_options(command: F) -> F:
    """How to print figures: ``as_json`` and ``stats_interval``."""
    command = click.option(
        "--stats-interval",
        type=SECONDS,
        metavar="SECONDS",
        help="Print figures that often.",
    )(command)
    return click.option(
        "--json", "as_json", is_flag=True, help="Figures as JSON on standard output."
    )(command)


def area_option(command: F) -> F:
    """``area_bytes``"""
    return click.option(
        "--area",
        "area_bytes",
        type=SIZE,
        default="64M",
        show_default=True,
        help="Memory for received data.",
    )(command)


def rx_buf_len_option(command: F) -> F:
    """``rx_buf_len``"""
    return click.option(
        "--rx-buf-len",
        type=BUFFER_SIZE,
        default=None,
        help="Bytes of a buffer, where the NIC can choose.  [default: what pays]",
    )(command)


def zero_copy_option(command: F) -> F:
    """``zero_copy``, a key of :data:`ZERO_COPY`"""
    return click.option(
        "--zero-copy",
        type=click.Choice(list(ZERO_COPY)),
        default="auto",
        show_default=True,
        help="Send from the area without a copy: where that costs less, wherever possible, "
        "or never.",
    )(command)


def max_connections_option(most: int) -> Callable[[F], F]:
    """``max_connections``, *most* unless given"""
    return click.option(
        "--max-connections",
        type=Number(1, 10_000_000),
        default=most,
        show_default=True,
        help="Connections at a time; more are refused. Fewer where ulimit -Hn has no room for "
        "them.",
    )


def how_text(card: CardOptions, queue: int | None) -> str:
    """How a command receives, for the line that says where it listens."""
    if card.interface is None:
        return "NODEV: the kernel copies"
    return f"{card.interface} queue {queue}"

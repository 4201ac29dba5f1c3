"""Options of ``zcrx-bench`` that say what is sent, over how many connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pyzcrx.bench.iperf3_sender import IPERF3
from pyzcrx.bench.job import ECHO_BYTES
from pyzcrx.bench.send import WAYS
from pyzcrx.cli.values import SIZE, Number

F = TypeVar("F", bound=Callable[..., Any])
MOST_SHORT = 1_000_000

_OPTIONS = (
    click.option(
        "--size",
        "size_bytes",
        default="256M",
        show_default=True,
        type=SIZE,
        help="What each receiver gets in a round, over all queues.",
    ),
    click.option(
        "--connections",
        default=1,
        show_default=True,
        type=Number(1, 10000),
        help="To each queue.",
    ),
    click.option(
        "--sender",
        "how",
        default="sendfile",
        show_default=True,
        type=click.Choice([*WAYS, IPERF3]),
        help="A way of our sender's, or stock iperf3.",
    ),
    click.option(
        "--short",
        default=0,
        type=Number(0, MOST_SHORT),
        metavar="CONNECTIONS",
        help="Instead, so many connections in a round that bring 4 KiB and end,"
        " --connections at a time.",
    ),
    click.option(
        "--echo-rounds",
        default=0,
        show_default=True,
        type=Number(0, 1_000_000),
        help="Measure so many round trips, too.",
    ),
    click.option(
        "--echo-bytes",
        default=ECHO_BYTES,
        show_default=True,
        type=Number(1, 1 << 20),
        help="Of a round trip.",
    ),
)


def exchange_options(command: F) -> F:
    """``size_bytes``, ``connections``, ``how``, ``short``, ``echo_rounds`` and ``echo_bytes``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_exchange(short: int, queues: int, how: str, *, read: bool) -> None:
    """Raises UsageError for short connections with what those do not have."""
    if short and (queues != 1 or how != "sendfile" or read):
        raise click.UsageError(
            "--short is of one queue, sent in one way and not read: leave --queues, --sender "
            "and --read out"
        )

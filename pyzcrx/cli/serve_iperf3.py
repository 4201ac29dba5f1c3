"""``zcrx-bench --serve-iperf3``: set-up, signals and figures around the server."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict

import click

import pyzcrx
from pyzcrx._kernel.endpoint import host_of
from pyzcrx.bench.iperf3_server import Iperf3Server, TestResult
from pyzcrx.cli import turns
from pyzcrx.cli.card import CardOptions, Watch
from pyzcrx.cli.common import size_text, stats_json, stats_text
from pyzcrx.cli.listener import QUEUE_TIMEOUT_S, listen
from pyzcrx.cli.stop import Stop


def _tell(result: TestResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    rate = size_text(result.size_bytes / result.seconds) if result.seconds else "0 B"
    text = f"{result.streams} streams, {result.seconds:.1f} s, {rate}/s"
    click.echo(f"zcrx-bench: {text}{f'; {result.trouble}' if result.trouble else ''}", err=True)


def serve(
    host: str | None,
    port: int,
    card: CardOptions,
    rx_buf_len: int | None,
    area_bytes: int,
    *,
    timeout_s: float,
    once: bool,
    as_json: bool,
) -> None:
    """Until SIGINT or SIGTERM, or with *once* until a test is over."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        area = stack.enter_context(pyzcrx.Area.anonymous(area_bytes))
        ring = pyzcrx.Ring()
        stack.callback(ring.close)
        stop = Stop(ring)
        interface, queue = card.interface, card.queue
        if interface is not None:
            pyzcrx.drop_urgent(listener)
        setup = card.for_listener(listener, ring, stack, area_bytes=area_bytes)
        if setup is not None:
            queue = setup.queue
        ifq = ring.register_ifq(
            area,
            interface=setup.ifindex if setup is not None else interface,
            rx_queue=queue,
            rx_buf_len=rx_buf_len,
            timeout=QUEUE_TIMEOUT_S,
        )
        server = Iperf3Server(
            ring,
            ifq,
            listener,
            told=lambda r: _tell(r, as_json=as_json),
            timeout_s=timeout_s,
        )
        address, bound_port = host_of(listener), listener.getsockname()[1]
        how = f"{interface} queue {queue}" if interface else "NODEV: the kernel copies"
        click.echo(f"zcrx-bench: listening on {address} port {bound_port} ({how})", err=True)
        began = time.monotonic()
        turns.serve(
            server.turn,
            stop,
            Watch(setup),
            done=lambda: bool(once and server.tests and server.idle),
        )
        stop.ignore()
        server.stop()
        stats = ifq.stats()
        stats.seconds = time.monotonic() - began
        ring.close()
        server.close()
    click.echo(stats_json(stats) if as_json else f"zcrx-bench: {stats_text(stats)}", err=True)

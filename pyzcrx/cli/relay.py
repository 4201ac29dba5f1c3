"""``zcrx-relay``: TCP connections received by zero-copy, and sent on without a copy."""

from __future__ import annotations

import time
from contextlib import ExitStack

import click

import pyzcrx
from pyzcrx._kernel.endpoint import host_of
from pyzcrx.cli.card import CardOptions, Watch
from pyzcrx.cli.common import Command, size_text, stats_json
from pyzcrx.cli.listener import QUEUE_TIMEOUT_S, listen
from pyzcrx.cli.options import (
    ZERO_COPY,
    ZeroCopy,
    area_option,
    check_receiver,
    figures_options,
    how_text,
    max_connections_option,
    receiver_options,
    rx_buf_len_option,
    zero_copy_option,
)
from pyzcrx.cli.placement import check_cpu, place, placement_options
from pyzcrx.cli.stop import Stop
from pyzcrx.cli.turns import serve
from pyzcrx.cli.user import user_option, worker_of
from pyzcrx.cli.values import ADDRESS, BUFFER_SIZE, SECONDS, SIZE
from pyzcrx.forwarding.relay import CONNECT_TIMEOUT_S, MAX_CONNECTIONS, Relay
from pyzcrx.placement import Mode, Tally
from pyzcrx.privilege import User


@click.command("zcrx-relay", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("address", metavar="HOST:PORT", type=ADDRESS)
@receiver_options
@zero_copy_option
@figures_options
@area_option
@rx_buf_len_option
@click.option(
    "--rcvbuf",
    "rcvbuf_bytes",
    type=BUFFER_SIZE,
    default=None,
    help="SO_RCVBUF of all sockets: what one that is not read may hold of the area.  "
    "[default: on a NIC, a 64th of the area, 4K to 1M; else the kernel's choice]",
)
@click.option(
    "--max-backlog",
    "backlog_bytes",
    type=SIZE,
    default=None,
    help="Bytes that may wait in each direction; then the sender is not read on.  "
    "[default: a 32nd of the area, less where many share it, 256K to 1M]",
)
@max_connections_option(MAX_CONNECTIONS)
@click.option(
    "--connect-timeout",
    type=SECONDS,
    metavar="SECONDS",
    default=CONNECT_TIMEOUT_S,
    show_default=True,
    help="How long HOST may take to answer.",
)
@click.option(
    "--idle-timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Reset a connection that forwards nothing for that many seconds.",
)
@user_option
@placement_options
@click.version_option(pyzcrx.__version__, prog_name="zcrx-relay")
def main(
    address: tuple[str, int],
    host: str | None,
    port: int,
    card: CardOptions,
    nodev: bool,
    zero_copy: ZeroCopy,
    as_json: bool,
    stats_interval: float | None,
    area_bytes: int,
    rx_buf_len: int | None,
    rcvbuf_bytes: int | None,
    backlog_bytes: int | None,
    max_connections: int,
    connect_timeout: float,
    idle_timeout: float | None,
    user: User | None,
    cpu: Mode | int | None,
    busy_poll_us: int,
) -> None:
    """Accept TCP connections, connect each on to HOST:PORT, forward both ways.

    Receives on one rx queue of a NIC (-i), which is set up for it and put back at the
    end, or with --nodev on none. Set up are the flows of those that connect; what HOST sends
    back is received without a copy only if its flows are steered to the queue as well.

    Ends on SIGINT and SIGTERM with status 0 and its figures; status 1 and one line
    for an error, 2 for a wrong command line.
    """
    check_receiver(card, nodev=nodev)
    check_cpu(cpu)
    interface, queue = card.interface, card.queue
    worker = worker_of(user, card.prepared if user is not None else None, "zcrx-relay")
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        if interface is not None:
            pyzcrx.drop_urgent(listener)
        area = stack.enter_context(pyzcrx.Area.anonymous(area_bytes))
        ring = pyzcrx.Ring(gather_us=0)
        stack.callback(ring.close)
        stop = Stop(ring)
        setup = card.for_listener(
            listener, ring, stack, area_bytes=area_bytes, supervised=worker is not None
        )
        if setup is not None:
            queue = setup.queue
        ifq = ring.register_ifq(
            area,
            interface=setup.ifindex if setup is not None else interface,
            rx_queue=queue,
            rx_buf_len=rx_buf_len,
            pressure=pyzcrx.Pressure("copy"),
            timeout=QUEUE_TIMEOUT_S,
        )
        if rcvbuf_bytes is None and not nodev:
            rcvbuf_bytes = min(max(area_bytes // 64, 4 << 10), 1 << 20)
        tally = place(ring, cpu, busy_poll_us, interface, queue)
        if worker is not None:
            worker.drop()
        relay = Relay(
            ring,
            ifq,
            listener,
            address,
            zero_copy=ZERO_COPY[zero_copy],
            backlog_bytes=backlog_bytes,
            rcvbuf_bytes=rcvbuf_bytes,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            ending=tally.note,
        )
        here, bound_port = host_of(listener), listener.getsockname()[1]
        how = how_text(card, queue)
        click.echo(f"zcrx-relay: listening on {here} port {bound_port} ({how})", err=True)
        figures = _Figures(ifq, relay, tally)
        serve(
            relay.turn,
            stop,
            Watch(setup),
            interval=stats_interval,
            show=lambda: figures.show(as_json),
        )
        stop.ignore()
        relay.stop()
        ifq.audit()
        ring.close()
        relay.close()
    figures.show(as_json)


class _Figures:
    """The figures since the beginning, shown as asked for."""

    def __init__(self, ifq: pyzcrx.Ifq, relay: Relay, tally: Tally) -> None:
        self._ifq = ifq
        self._relay = relay
        self._tally = tally
        self._began = time.monotonic()

    def show(self, as_json: bool) -> None:
        stats = self._relay.stats()
        sent = self._relay.ring.send_stats()
        if as_json:
            received = self._ifq.stats()
            received.seconds = time.monotonic() - self._began
            # Without a NIC there is no queue that could be placed.
            more = {} if self._ifq.nodev else {"placement": self._tally.as_dict()}
            click.echo(stats_json(received, relay=stats.as_dict(), sent=sent.as_dict(), **more))
        else:
            text = (
                f"{stats.connections} connections, {stats.open} open, {stats.refused} refused, "
                f"{stats.resets} reset; {size_text(stats.forward_bytes)} forward, "
                f"{size_text(stats.backward_bytes)} back; "
                f"{size_text(sent.bytes_zero_copy)} sent without a copy"
            )
            click.echo(f"zcrx-relay: {text}", err=True)


if __name__ == "__main__":
    main()

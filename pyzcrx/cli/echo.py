"""``zcrx-echo``: a TCP server that receives by zero-copy."""

from __future__ import annotations

import time
from contextlib import ExitStack

import click

import pyzcrx
from pyzcrx._kernel.endpoint import host_of
from pyzcrx._pressure.policy import POLICIES, Policy
from pyzcrx._queue.area import HugePages
from pyzcrx._queue.registration import RqMemory
from pyzcrx._ring.pace import MOST_US
from pyzcrx.cli.acceptor import make_room
from pyzcrx.cli.card import CardOptions, Watch
from pyzcrx.cli.common import Command, stats_json, stats_text
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
from pyzcrx.cli.server import MAX_CONNECTIONS, Server
from pyzcrx.cli.stop import Stop
from pyzcrx.cli.turns import serve
from pyzcrx.cli.user import user_option, worker_of
from pyzcrx.cli.values import BUFFER_SIZE, SECONDS, SIZE, Number
from pyzcrx.forwarding.backlog import Backlog
from pyzcrx.placement import Mode, Tally
from pyzcrx.privilege import User


@click.command("zcrx-echo", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@receiver_options
@click.option("--discard", is_flag=True, help="Receive only, send nothing back.")
@zero_copy_option
@click.option("--once", is_flag=True, help="Serve one connection, then end.")
@figures_options
@area_option
@click.option(
    "--huge",
    type=click.Choice(["2M", "1G", "thp", "none"]),
    help="Huge pages for the area.  [default: transparent ones, if there are any]",
)
@click.option(
    "--rq-entries",
    type=Number(1, 32768),
    default=4096,
    show_default=True,
    help="Size of the refill queue.",
)
@click.option(
    "--rq-memory",
    type=click.Choice(["user", "kernel"]),
    default="user",
    show_default=True,
    help="Who supplies its pages.",
)
@click.option(
    "--cq-entries",
    type=Number(1, 65536),
    default=4096,
    show_default=True,
    help="Size of the completion queue.",
)
@rx_buf_len_option
@click.option(
    "--pressure",
    type=click.Choice(POLICIES),
    default="copy",
    show_default=True,
    help="What to do while little of the area is left.",
)
@click.option(
    "--pressure-limit",
    type=SIZE,
    default=None,
    help="Most memory for copies, or for areas.  [default: see pyzcrx.Pressure]",
)
@click.option(
    "--rcvbuf",
    "rcvbuf_bytes",
    type=BUFFER_SIZE,
    default=None,
    help="SO_RCVBUF of connections: what one that is not read may hold of the area.  "
    "[default: on a NIC, a 64th of the area, 4K to 1M; else the kernel's choice]",
)
@click.option(
    "--max-backlog",
    "backlog_bytes",
    type=SIZE,
    default=None,
    help="Bytes of a connection that may wait to be echoed; then it is not read on.  "
    "[default: a 16th of the area, less where many share it, 256K to 1M]",
)
@max_connections_option(MAX_CONNECTIONS)
@click.option(
    "--idle-timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Reset a connection that neither sends nor takes anything for that many seconds.",
)
@user_option
@placement_options
@click.version_option(pyzcrx.__version__, prog_name="zcrx-echo")
def main(
    host: str | None,
    port: int,
    card: CardOptions,
    nodev: bool,
    discard: bool,
    zero_copy: ZeroCopy,
    once: bool,
    as_json: bool,
    stats_interval: float | None,
    area_bytes: int,
    huge: HugePages | None,
    rq_entries: int,
    rq_memory: RqMemory,
    cq_entries: int,
    rx_buf_len: int | None,
    pressure: Policy,
    pressure_limit: int | None,
    rcvbuf_bytes: int | None,
    backlog_bytes: int | None,
    max_connections: int,
    idle_timeout: float | None,
    user: User | None,
    cpu: Mode | int | None,
    busy_poll_us: int,
) -> None:
    """Accept TCP connections, receive by io_uring zero-copy, echo every byte.

    Receives on one rx queue of a NIC (-i), which is set up for it and put back
    at the end, or with --nodev on none. Ends on SIGINT and SIGTERM with status 0
    and its figures; status 1 and one line for an error, 2 for a wrong command
    line.
    """
    check_receiver(card, nodev=nodev)
    check_cpu(cpu)
    interface, queue = card.interface, card.queue
    worker = worker_of(user, card.prepared if user is not None else None, "zcrx-echo")
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        if interface is not None:
            pyzcrx.drop_urgent(listener)
        area = stack.enter_context(pyzcrx.Area.anonymous(area_bytes, huge=huge))
        # An echo waits for nobody; who only receives may gather.
        ring = pyzcrx.Ring(cq_entries=cq_entries, gather_us=MOST_US if discard else 0)
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
            rq_entries=rq_entries,
            rq_memory=rq_memory,
            rx_buf_len=rx_buf_len,
            pressure=pyzcrx.Pressure(pressure, limit_bytes=pressure_limit),
            timeout=QUEUE_TIMEOUT_S,
        )
        if rcvbuf_bytes is None and not (nodev or discard):
            rcvbuf_bytes = min(max(area_bytes // 64, 4 << 10), 1 << 20)
        tally = place(ring, cpu, busy_poll_us, interface, queue)
        max_connections = make_room(max_connections)
        if worker is not None:
            worker.drop()
        server = Server(
            ring,
            ifq,
            listener,
            discard=discard,
            once=once,
            ending=tally.note,
            told=lambda line: click.echo(f"zcrx-echo: {line}", err=True),
            backlog=Backlog(area_bytes, backlog_bytes),
            rcvbuf_bytes=rcvbuf_bytes,
            zero_copy=ZERO_COPY[zero_copy],
            max_connections=max_connections,
            idle_timeout_s=idle_timeout,
        )
        address, bound_port = host_of(listener), listener.getsockname()[1]
        how = how_text(card, queue)
        click.echo(f"zcrx-echo: listening on {address} port {bound_port} ({how})", err=True)
        figures = _Figures(ring, ifq, tally)
        serve(
            server.turn,
            stop,
            Watch(setup),
            done=lambda: server.done,
            interval=stats_interval,
            show=lambda: figures.show(as_json),
        )
        stop.ignore()
        ifq.audit()
        ring.close()
        server.close()
    figures.show(as_json)


class _Figures:
    """The figures since the beginning, shown as asked for."""

    def __init__(self, ring: pyzcrx.Ring, ifq: pyzcrx.Ifq, tally: Tally) -> None:
        self._ring = ring
        self._ifq = ifq
        self._tally = tally
        self._began = time.monotonic()

    def show(self, as_json: bool) -> None:
        stats = self._ifq.stats()
        stats.seconds = time.monotonic() - self._began
        if as_json:
            # Without a NIC there is no queue that could be placed.
            more = {} if self._ifq.nodev else {"placement": self._tally.as_dict()}
            click.echo(stats_json(stats, sent=self._ring.send_stats().as_dict(), **more))
        else:
            click.echo(f"zcrx-echo: {stats_text(stats)}", err=True)


if __name__ == "__main__":
    main()

"""``zcrx-recv``: TCP connections received by zero-copy, recorded to files."""

from __future__ import annotations

import json
import math
import socket
import time
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path

import click

import pyzcrx
from pyzcrx._kernel.endpoint import host_of
from pyzcrx._ring.pace import MOST_US
from pyzcrx.cli.acceptor import EACH, make_room
from pyzcrx.cli.card import CardOptions, Watch
from pyzcrx.cli.common import Command, share_text, size_text
from pyzcrx.cli.listener import QUEUE_TIMEOUT_S, listen
from pyzcrx.cli.options import (
    area_option,
    check_receiver,
    figures_options,
    how_text,
    receiver_options,
    rx_buf_len_option,
)
from pyzcrx.cli.progress import Progress
from pyzcrx.cli.stop import Stop
from pyzcrx.cli.streams import one_line
from pyzcrx.cli.values import BUFFER_SIZE, SIZE, Number, OutputFile
from pyzcrx.errors import BadArgument
from pyzcrx.record.pages import Handshake, prepare, set_rcvbuf
from pyzcrx.record.recorder import SYNC_BYTES
from pyzcrx.record.series import FileSeries
from pyzcrx.record.session import Session
from pyzcrx.record.stats import RecordStats

_LEAST_RCVBUF, _MOST_RCVBUF = 16 << 10, 1 << 30
SIGNALLED = 128


@click.command("zcrx-recv", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o",
    "--output",
    required=True,
    type=OutputFile(),
    metavar="FILE",
    help="Where to; with several streams FILE.0, FILE.1 and so on.",
)
@receiver_options
@click.option(
    "-j",
    "--streams",
    type=Number(1, 10_000),
    default=1,
    show_default=True,
    help="Connections to record, each to a file of its own, in the order of their arrival.",
)
@click.option(
    "--split-size",
    "split_bytes",
    type=SIZE,
    help="Go on in another file after that many bytes: FILE.000, FILE.001 and so on.",
)
@click.option(
    "--direct/--no-direct",
    default=False,
    show_default=True,
    help="Write past the page cache: what arrives in whole pages is not copied.",
)
@click.option(
    "--preallocate",
    "reserve_bytes",
    type=SIZE,
    help="Reserve that much of the disk for each file first.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue after what the files have, after a power failure or a new mount after what was "
    "synced. The sender must begin there.",
)
@click.option(
    "--sync-size",
    "sync_bytes",
    type=SIZE,
    default=f"{SYNC_BYTES >> 20}M",
    show_default=True,
    help="Sync each file whenever that many bytes came: what a failing disk can cost.",
)
@figures_options
@area_option
@rx_buf_len_option
@click.option(
    "--rcvbuf",
    "rcvbuf_bytes",
    type=BUFFER_SIZE,
    help="SO_RCVBUF of connections: what one may hold of the area while the disk is slow.  "
    "[default: together an eighth of the area]",
)
@click.version_option(pyzcrx.__version__, prog_name="zcrx-recv")
@click.pass_context
def main(
    ctx: click.Context,
    output: Path,
    host: str | None,
    port: int,
    card: CardOptions,
    nodev: bool,
    streams: int,
    split_bytes: int | None,
    direct: bool,
    reserve_bytes: int | None,
    resume: bool,
    sync_bytes: int,
    as_json: bool,
    stats_interval: float | None,
    area_bytes: int,
    rx_buf_len: int | None,
    rcvbuf_bytes: int | None,
) -> None:
    """Record TCP connections to files, from the NIC to the disk.

    Receives on one rx queue of a NIC (-i), which is set up for it and put back at the
    end, or with --nodev on none. Ends once every connection has ended.

    Status 0: all that the peers sent is on disk. Status 1: some is not; a line for each such
    file says how many bytes at its beginning are right and on disk, and --resume goes on
    there. 130 and 143: SIGINT or SIGTERM ended it before the streams did; what had
    arrived is on disk. 2: a wrong command line.

    A connection is closed once all of it is on disk, and reset if that cannot be.
    """
    check_receiver(card, nodev=nodev)
    interface, queue = card.interface, card.queue
    wanted = -(-(EACH + 1) * streams // EACH)  # each has a file as well
    if make_room(wanted) < wanted:
        raise BadArgument(f"ulimit -Hn leaves no room for {streams} connections; raise it")
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        if interface is not None:
            pyzcrx.drop_urgent(listener)
        if rcvbuf_bytes is None:
            rcvbuf_bytes = min(max(area_bytes // 8 // streams, _LEAST_RCVBUF), _MOST_RCVBUF)
        if direct:
            prepare(listener)
        else:
            set_rcvbuf(listener, rcvbuf_bytes)
        area = stack.enter_context(pyzcrx.Area.anonymous(area_bytes))
        ring = pyzcrx.Ring(gather_us=MOST_US)
        stack.callback(ring.close)
        stop = Stop(ring)
        setup = card.for_listener(listener, ring, stack, area_bytes=area_bytes)
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
        outputs = _outputs(
            stack,
            output,
            streams,
            split_bytes=split_bytes,
            direct=direct,
            reserve_bytes=reserve_bytes or 0,
            resume=resume,
        )
        lines = _Lines(Progress("zcrx-recv", stats_interval), direct=direct)
        session = Session(
            ring,
            ifq,
            listener,
            outputs,
            rcvbuf_bytes=rcvbuf_bytes,
            sync_bytes=sync_bytes,
            begun=lines.begun,
            ended=lines.ended,
        )
        here, bound_port = host_of(listener), listener.getsockname()[1]
        if resume:  # before who waits for us to listen reads on
            for each in outputs:
                cut = f"; {each.cut_bytes} bytes behind it were cut off" if each.cut_bytes else ""
                lines.say(f"{each.paths[-1]}: goes on at byte {each.begun_at} of the stream{cut}")
        lines.say(f"listening on {here} port {bound_port} ({how_text(card, queue)})")
        figures = _Figures(ifq, session)
        try:
            _serve(session, figures, lines, stop, stats_interval, as_json, Watch(setup))
        finally:
            stop.ignore()
            try:
                session.stop()
                ifq.audit()
            finally:
                ring.close()
                session.close()
    if as_json:
        figures.show()
    if not session.whole:
        ctx.exit(1 if stop.by is None else SIGNALLED + stop.by)


def _outputs(
    stack: ExitStack,
    path: Path,
    streams: int,
    *,
    split_bytes: int | None,
    direct: bool,
    reserve_bytes: int,
    resume: bool,
) -> list[FileSeries]:
    """A series for each stream; all open, or none where one cannot be."""
    names = [path]
    if streams > 1:
        digits = len(str(streams - 1))
        names = [path.with_name(f"{path.name}.{i:0{digits}}") for i in range(streams)]
    found: list[FileSeries] = []
    try:
        for name in names:
            found.append(
                FileSeries(
                    name,
                    split_bytes=split_bytes,
                    direct=direct,
                    reserve_bytes=reserve_bytes,
                    resume=resume,
                )
            )
    except BaseException:
        for each in found:
            each.remove_if_unused()
        raise
    for each in found:
        stack.callback(each.close)
    return found


class _Lines:
    """What is said on standard error."""

    def __init__(self, progress: Progress, *, direct: bool) -> None:
        self.progress = progress
        self.say = progress.say
        self._direct = direct
        self._warned = False

    def begun(self, sock: socket.socket, output: FileSeries) -> None:
        with suppress(OSError):  # it may be over already
            address, port = sock.getpeername()[:2]
            self.say(f"{output.paths[-1]}: from {address} port {port}")
            if self._direct and not self._warned:
                self._check(Handshake.of(sock))

    def _check(self, handshake: Handshake) -> None:
        if (advice := handshake.advice()) is not None:
            self._warned = True
            warnings.warn(advice, stacklevel=1)

    def ended(self, stats: RecordStats) -> None:
        where = stats.files[-1]
        copied = ""
        received = stats.position - stats.begun_at
        if self._direct and received:
            copied = f", {share_text(stats.copied_bytes, received)} copied"
        if stats.whole:
            self.say(f"{where}: whole, {stats.synced_bytes} bytes on disk{copied}")
            return
        self.say(
            one_line(
                f"{where}: not whole: {stats.error}; the stream's first {stats.synced_bytes} "
                f"bytes are right and on disk{copied}"
            )
        )


class _Figures:
    """The figures since the beginning, shown as asked for."""

    def __init__(self, ifq: pyzcrx.Ifq, session: Session) -> None:
        self._ifq = ifq
        self._session = session
        self._began = time.monotonic()

    def show(self) -> None:
        received = self._ifq.stats()
        received.seconds = time.monotonic() - self._began
        streams = [stats.as_dict() for stats in self._session.streams()]
        click.echo(json.dumps({**received.as_dict(), "streams": streams}))

    def text(self) -> str:
        streams = self._session.streams()
        received = sum(stats.position - stats.begun_at for stats in streams)
        synced = sum(max(0, stats.synced_bytes - stats.begun_at) for stats in streams)
        rate = received / max(time.monotonic() - self._began, 1e-9)
        return (
            f"{size_text(received)} received, {size_text(synced)} on disk, "
            f"{size_text(rate)}/s, {self._session.receiving} of {len(streams)} streams open"
        )


def _serve(
    session: Session,
    figures: _Figures,
    lines: _Lines,
    stop: Stop,
    interval: float | None,
    as_json: bool,
    watch: Watch,
) -> None:
    """Until every stream is over, or asked to stop."""
    due = time.monotonic() + interval if interval and as_json else math.inf
    while not (session.done or stop.asked):
        wait_s = lines.progress.wait_s() if not as_json else due - time.monotonic()
        session.turn(watch.left(None if wait_s == math.inf else max(0.0, wait_s)))
        watch.look()
        if not as_json:
            lines.progress.show(figures.text)
        elif interval and time.monotonic() >= due:
            due += interval
            figures.show()


if __name__ == "__main__":
    main()

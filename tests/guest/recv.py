"""``zcrx-recv`` as a process, its peers, and the files that it leaves."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.guest.card import CARD
from tests.guest.program import Program
from tests.patience import START_S, until


class Recv:
    """A running ``zcrx-recv -o`` *out*; it ends by itself, or by the test."""

    def __init__(self, out: Path, *options: str) -> None:
        argv = ("zcrx-recv", "-o", str(out), *CARD.echo_options, "--json", "--port", "0", *options)
        self.process = Program(*argv)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(
            lambda: self.line("listening on") or not self._reader.is_alive(),
            "it does not begin",
            patience_s=START_S,
        )
        assert self.line("listening on"), "".join(self.lines)
        self.port = int(self.line("listening on").split(" port ")[1].split()[0])
        self.figures: dict[str, Any] = {}
        """Those of its end."""

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)

    def line(self, text: str) -> str:
        """The first that has *text*; empty if none has yet."""
        return next((line for line in self.lines if text in line), "")

    def begins(self) -> list[int]:
        """Where each stream goes on, as a resumed recording says."""
        lines = [line for line in self.lines if "goes on at byte" in line]
        return [int(line.split(" byte ")[1].split()[0]) for line in lines]

    def connect(self, sndbuf_bytes: int | None = None) -> socket.socket:
        """A connection that it has accepted, so that files are in the order of the calls.

        A client's connect() returns before its last ACK is sent, which can come behind those of
        the next one. Kernel: ``net/ipv4/tcp_input.c:tcp_rcv_synsent_state_process()``.
        """
        sock = CARD.socket()
        sock.settimeout(START_S)
        if sndbuf_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf_bytes)
        sock.connect((CARD.server, self.port))
        said = f" port {sock.getsockname()[1]}\n"
        until(lambda: self.line(said), "it is not accepted", patience_s=START_S)
        return sock

    def finish(self, status: int = 0) -> list[dict[str, Any]]:
        """Wait for its end, which must be with *status*; gives the figures of each stream."""
        output = self.process.stdout.read()
        ended = self.process.wait(START_S)
        self._reader.join(START_S)
        assert ended == status, "".join(self.lines)
        self.figures = json.loads(output.splitlines()[-1])
        assert self.figures["held_buffers"] == 0
        streams: list[dict[str, Any]] = self.figures["streams"]
        return streams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(START_S)
        self._reader.join(START_S)
        if error is not None:
            error.add_note("zcrx-recv said: " + "".join(self.lines))
        self.process.close()


def _cut(data: bytes) -> Iterable[bytes]:
    return (data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16))


def send(sock: socket.socket, data: bytes | Iterable[bytes]) -> bool:
    """Send *data* and its end; gives whether the recorder says that it is on disk."""
    pieces = _cut(data) if isinstance(data, bytes) else data
    try:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        return sock.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        return False
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # shutdown() finds that it was reset meanwhile
            raise
        return False


def send_each(socks: Sequence[socket.socket], streams: Sequence[bytes]) -> list[bool]:
    """:func:`send`, beside each other, one of *streams* by each of *socks*, which are closed."""
    with ThreadPoolExecutor(len(socks)) as pool:
        done = list(pool.map(send, socks, streams))
    for sock in socks:
        sock.close()
    return done


def kept(out: Path, streams: int) -> list[bytes]:
    """What the files of each stream have."""
    names = [out] if streams == 1 else [out.with_name(f"{out.name}.{i}") for i in range(streams)]
    parts = [
        [name] if name.exists() else sorted(out.parent.glob(f"{name.name}.*")) for name in names
    ]
    return [b"".join(part.read_bytes() for part in each) for each in parts]


def go_on(out: Path, options: Sequence[str], streams: Sequence[bytes]) -> list[dict[str, Any]]:
    """Resume a recording; each peer sends its stream from where the recorder says. All is well."""
    CARD.queue_free()
    with Recv(out, *options, "--resume") as recv:
        rests = [data[at:] for data, at in zip(streams, recv.begins(), strict=True)]
        socks = [recv.connect() for _ in streams]
        assert all(send_each(socks, rests))
        return recv.finish()

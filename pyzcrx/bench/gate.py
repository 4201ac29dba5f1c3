"""How a receiver's process gets its connections, the same for every receiver."""

from __future__ import annotations

import select
import socket
import sys
import zlib
from collections.abc import Callable

from pyzcrx._kernel import endpoint
from pyzcrx.bench.job import ReceiveJob
from pyzcrx.bench.meter import Meter
from pyzcrx.urgent import drop_urgent

Consume = Callable[[memoryview, socket.socket], object]


class Gate:
    """Opens once the receiver is ready to receive; the meter runs from then on."""

    def __init__(self, job: ReceiveJob, meter: Meter) -> None:
        self.job = job
        self.meter = meter
        self._listener: socket.socket | None = None
        if not job.fds and not job.program:
            self._listener = endpoint.listen(job.host, job.port, max(128, job.connections))

    def guard(self) -> None:
        """Have sockets inherit the filter of urgent data, which each has to be given else."""
        if self._listener is not None and self.job.interface:
            drop_urgent(self._listener)

    def open(self) -> list[socket.socket]:
        """Say that we are ready, take all connections, start the meter."""
        if self._listener is None:
            print("ready", file=sys.stderr, flush=True)
            streams = [socket.socket(fileno=fd) for fd in self.job.fds]
        else:
            self._say(self._listener)
            streams = [self._listener.accept()[0] for _ in range(self.job.connections)]
            self._listener.close()
        if self.job.echo:
            for stream in streams:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.meter.start()
        return streams

    def first(self) -> socket.socket:
        """Say that we are ready; the listener, once there is a connection to accept."""
        assert self._listener is not None
        self._say(self._listener)
        select.select([self._listener], [], [])
        self.meter.start()
        return self._listener

    @staticmethod
    def _say(listener: socket.socket) -> None:
        host, port = endpoint.host_of(listener), listener.getsockname()[1]
        print(f"listening on {host} port {port}", file=sys.stderr, flush=True)

    @property
    def consume(self) -> Consume | None:
        """What is to be done with each chunk, if anything."""
        if self.job.echo:
            return lambda view, stream: stream.sendall(view)
        if self.job.read:
            return lambda view, _: zlib.crc32(view)
        return None

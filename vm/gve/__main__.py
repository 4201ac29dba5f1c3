"""Two NICs, back to back: ``python -m vm.gve NIC0 NIC1 CONTROL...``.

The arguments are descriptors of sockets: those where QEMU connects to each NIC, listening, then
those that are controlled from, connected. The program ends once QEMU has left both NICs.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from vm.gve import control
from vm.gve.device import Gvnic
from vm.gve.memory import Memory
from vm.gve.shape import Shape
from vm.gve.vfio_user import Closed, Server

MACS = (b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02")
READ = 1 << 14


class Program:
    """One thread: each event is dealt with before the next one is asked for."""

    def __init__(self, nics: Sequence[socket.socket], controls: Sequence[socket.socket]) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._left = len(nics)
        self._nics = [self._nic(mac, listener) for mac, listener in zip(MACS, nics, strict=True)]
        for nic, peer in zip(self._nics, reversed(self._nics), strict=True):
            nic.peer = peer
        for connection in controls:
            lines = self._controlled(connection)
            next(lines)
            self._watch(connection, lines.__next__)

    def run(self) -> None:
        """Until QEMU has left."""
        while self._left:
            waits = [wait for nic in self._nics if (wait := nic.link.wait()) is not None]
            for fd, _ in self._poll.poll(min(waits) * 1000 + 1 if waits else None):
                if handler := self._handlers.get(fd):
                    handler()
            for nic in self._nics if waits else ():
                nic.link.deliver_late()
                nic.interrupts.flush()

    def _nic(self, mac: bytes, listener: socket.socket) -> Gvnic:
        memory = Memory()
        nic = Gvnic(mac, Shape(), memory)

        def accept() -> None:
            self._forget(listener)
            with listener:
                connection, _ = listener.accept()
            server = Server(connection, nic, memory)
            nic.interrupts.fire = server.interrupt
            self._watch(connection, lambda: serve(server, connection))

        def serve(server: Server, connection: socket.socket) -> None:
            try:
                server.serve()
            except (Closed, ConnectionError):
                self._forget(connection)
                self._left -= 1
                server.close()

        self._watch(listener, accept)
        return nic

    def _controlled(self, connection: socket.socket) -> Iterator[None]:
        """Answer each request; a step reads once."""
        data = b""
        while True:
            yield
            try:
                part = connection.recv(READ)
                data += part
                *whole, data = data.split(b"\n")
                for line in whole:
                    connection.sendall(control.answer(self._nics, line))
            except ConnectionError:
                part = b""
            if not part or len(data) > control.LONGEST:
                self._forget(connection)
                connection.close()
                yield

    def _watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._poll.register(sock, select.POLLIN)

    def _forget(self, sock: socket.socket) -> None:
        self._poll.unregister(sock)
        del self._handlers[sock.fileno()]


def main(argv: Sequence[str]) -> None:
    first, second, *controls = (socket.socket(fileno=int(number)) for number in argv)
    Program((first, second), controls).run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The protocol, with the messages that QEMU sends."""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from vm.gve.device import Gvnic
from vm.gve.memory import Memory, NotMapped
from vm.gve.shape import Shape
from vm.gve.vfio_user import HEADER, MSIX, Closed, Command, Server

SIZE = 1 << 16


class Client:
    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.memory = Memory()
        self.nic = Gvnic(b"\x02\0\0\0\0\x01", Shape(), self.memory)
        self.nic.peer = self.nic
        self.server = Server(theirs, self.nic, self.memory)

    def send(self, command: int, body: bytes, fds: tuple[int, ...] = (), flags: int = 0) -> None:
        head = HEADER.pack(7, command, HEADER.size + len(body), flags, 0)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([head + body], rights)
        self.server.serve()

    def ask(self, command: int, body: bytes = b"", fds: tuple[int, ...] = ()) -> tuple[int, bytes]:
        """The errno and the body of the answer."""
        self.send(command, body, fds)
        data = self.socket.recv(SIZE)
        ident, echoed, size, flags, error = HEADER.unpack_from(data)
        assert (ident, echoed, size, flags & 1) == (7, command, len(data), 1)
        return error, data[HEADER.size :]


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.socket.close()
    made.server.close()


def test_version(client: Client) -> None:
    error, body = client.ask(Command.VERSION, struct.pack("<HH", 0, 1) + b"{}\0")
    assert error == 0
    assert body[:4] == struct.pack("<HH", 0, 1)
    assert json.loads(body[4:-1])["capabilities"]["max_msg_fds"] <= 16


def test_memory_is_mapped_and_unmapped(client: Client) -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    os.pwrite(fd, b"hello", 4096)
    body = struct.pack("<IIQQQ", 32, 3, 4096, 0x100000, 4096)
    assert client.ask(Command.DMA_MAP, body, (fd,)) == (0, b"")
    view = client.memory.at(0x100000, 5)
    assert bytes(view) == b"hello"
    view[:] = b"world"
    assert os.pread(fd, 5, 4096) == b"world"
    with pytest.raises(NotMapped):
        client.memory.at(0x100000 + 4090, 16)
    assert client.ask(Command.DMA_UNMAP, struct.pack("<IIQQ", 24, 0, 0x100000, 4096))[0] == 0
    with pytest.raises(NotMapped):
        client.memory.at(0x100000, 1)
    os.close(fd)


def test_what_cannot_be_mapped_is_left_out(client: Client) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    body = struct.pack("<IIQQQ", 32, 1, 0, 0x100000, 4096)
    assert client.ask(Command.DMA_MAP, body, (fd,)) == (0, b"")
    os.close(fd)


def test_interrupts(client: Client) -> None:
    fds = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
    assert client.ask(Command.SET_IRQS, struct.pack("<IIIII", 20, 0x24, MSIX, 3, 2), fds) == (
        0,
        b"",
    )
    client.server.interrupt(4)
    client.server.interrupt(5)  # off: nothing
    assert os.eventfd_read(fds[1]) == 1
    assert not select.select([fds[0]], [], [], 0)[0]
    assert client.ask(Command.SET_IRQS, struct.pack("<IIIII", 20, 0x21, MSIX, 0, 0)) == (0, b"")
    client.server.interrupt(4)
    assert not select.select([fds[1]], [], [], 0)[0]
    for fd in fds:
        os.close(fd)


def test_the_device_is_a_gvnic(client: Client) -> None:
    _, body = client.ask(Command.REGION_READ, struct.pack("<QII", 0, 7, 4))
    assert body[16:] == struct.pack("<HH", 0x1AE0, 0x42)
    _, body = client.ask(Command.REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 2, 0, 0, 0))
    assert struct.unpack("<IIIIQQ", body)[4] == 0x10000
    _, body = client.ask(Command.IRQ_INFO, struct.pack("<IIII", 16, 0, MSIX, 0))
    assert struct.unpack("<IIII", body)[3] == 9


def test_a_write_is_answered_first_or_not_at_all(client: Client) -> None:
    body = struct.pack("<QII", 4, 0, 4) + struct.pack(">I", 1)
    error, answer = client.ask(Command.REGION_WRITE, body)
    assert (error, answer) == (0, body[:16])
    client.send(Command.REGION_WRITE, body, flags=0x10)
    assert not select.select([client.socket], [], [], 0)[0]


def test_unknown_commands_are_refused(client: Client) -> None:
    assert client.ask(99)[0] == errno.ENOTSUP


def test_the_end_is_seen_and_the_device_reset(client: Client) -> None:
    client.ask(Command.REGION_WRITE, struct.pack("<QII", 4, 0, 4) + struct.pack(">I", 1))
    status = client.nic.status
    client.socket.close()
    with pytest.raises(Closed):
        client.server.serve()
    client.server.close()
    assert client.nic.status != status

"""vfio-user, the server's side: as much of it as QEMU's client uses.

One connection, one device. A message is a header of 16 bytes, little endian (id, command,
size with the header, flags, errno), and a body; descriptors come beside it. QEMU maps the
guest's memory with DMA_MAP, hands over an eventfd for each interrupt with SET_IRQS, and turns
each access of the guest to a BAR into REGION_READ or REGION_WRITE. It keeps the MSI-X table
and the addresses of the BARs itself.

Protocol: "vfio-user Protocol Specification" of QEMU; <linux/vfio.h> has the structures.
"""

from __future__ import annotations

import array
import contextlib
import enum
import errno
import json
import os
import socket
import struct
from typing import Protocol

from vm.gve.memory import Memory


class Command(enum.IntEnum):
    """What a message asks for."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    GET_INFO = 4
    REGION_INFO = 5
    IRQ_INFO = 7
    SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    RESET = 13


HEADER = struct.Struct("<HHIII")
ACCESS = struct.Struct("<QII")  # offset, region, count
REPLY, NO_REPLY, ERROR = 1, 0x10, 0x20
REGIONS, IRQ_KINDS = 9, 5  # VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS
CONFIG_REGION, MSIX = 7, 2  # VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX
DEVICE_FLAGS = 1 | 2  # it can be reset, it is PCI
REGION_FLAGS = 1 | 2  # readable, writable
IRQ_FLAGS = 1 | 8  # by eventfd, of a fixed number
DATA_NONE, DATA_EVENTFD = 1, 4
MOST_FDS = 16
"""QEMU refuses a server that takes more: "malformed max_msg_fds"."""
MOST_BYTES = 1 << 20
ANCILLARY = socket.CMSG_SPACE(MOST_FDS * 4)


class Closed(Exception):
    """QEMU has left."""


class Device(Protocol):
    """What a server serves."""

    config: bytearray
    regions: dict[int, int]
    """The sizes of its BARs."""
    vectors: int

    def read(self, region: int, offset: int, size: int) -> bytes: ...

    def write(self, region: int, offset: int, data: bytes) -> None: ...

    def reset(self) -> None: ...


class Server:
    """The device at the other end of a connection, which becomes ours."""

    def __init__(self, connection: socket.socket, device: Device, memory: Memory) -> None:
        self._connection = connection
        self._device = device
        self._memory = memory
        self._interrupts: dict[int, int] = {}

    def close(self) -> None:
        """The client has left: the device is as after power-on."""
        self._connection.close()
        self._forget_interrupts()
        self._memory.clear()
        self._device.reset()

    def interrupt(self, vector: int) -> None:
        """Raise it, if the guest has it on."""
        fd = self._interrupts.get(vector)
        if fd is not None:
            os.eventfd_write(fd, 1)

    # Messages.

    def serve(self) -> None:
        """One message."""
        fds: list[int] = []
        ident, command, size, flags, _ = HEADER.unpack(self._receive(HEADER.size, fds))
        body = self._receive(size - HEADER.size, fds)
        try:
            if command == Command.REGION_WRITE:
                self._write(ident, flags, body)
                return
            answer, error = self._answer(command, body, fds), 0
        except OSError as refused:
            answer, error = b"", refused.errno or errno.EINVAL
        finally:
            for fd in fds:
                os.close(fd)
        self._reply(ident, command, flags, answer, error)

    def _receive(self, size: int, fds: list[int]) -> bytearray:
        data = bytearray()
        while len(data) < size:
            part, ancillary, _, _ = self._connection.recvmsg(size - len(data), ANCILLARY)
            if not part:
                raise Closed
            for level, kind, blob in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(blob[: len(blob) // 4 * 4])
                    fds.extend(numbers)
            data += part
        return data

    def _reply(self, ident: int, command: int, flags: int, answer: bytes, error: int = 0) -> None:
        if flags & NO_REPLY:
            return
        kind = REPLY | ERROR if error else REPLY
        head = HEADER.pack(ident, command, HEADER.size + len(answer), kind, error)
        self._connection.sendall(head + answer)

    def _write(self, ident: int, flags: int, body: bytearray) -> None:
        """Answered before it is acted upon, as a write on a PCI bus is: the guest goes on."""
        offset, region, count = ACCESS.unpack_from(body)
        data = bytes(body[ACCESS.size : ACCESS.size + count])
        self._reply(ident, Command.REGION_WRITE, flags, bytes(body[: ACCESS.size]))
        if region == CONFIG_REGION:
            self._device.config[offset : offset + count] = data
        else:
            self._device.write(region, offset, data)

    def _answer(self, command: int, body: bytearray, fds: list[int]) -> bytes:
        device = self._device
        match command:
            case Command.REGION_READ:
                return self._read(body)
            case Command.VERSION:
                capabilities = {"max_msg_fds": MOST_FDS, "max_data_xfer_size": MOST_BYTES}
                text = json.dumps({"capabilities": capabilities}).encode() + b"\0"
                return bytes(body[:4]) + text  # the version that the client proposed
            case Command.DMA_MAP:
                self._map(body, fds)
                return b""
            case Command.DMA_UNMAP:
                _, _, address, size = struct.unpack_from("<IIQQ", body)
                self._memory.remove(address, size)
                return bytes(body)
            case Command.GET_INFO:
                return struct.pack("<IIII", 16, DEVICE_FLAGS, REGIONS, IRQ_KINDS)
            case Command.REGION_INFO:
                (index,) = struct.unpack_from("<I", body, 8)
                size = {CONFIG_REGION: len(device.config), **device.regions}.get(index, 0)
                flags = REGION_FLAGS if size else 0
                return struct.pack("<IIIIQQ", 32, flags, index, 0, size, 0)
            case Command.IRQ_INFO:
                (index,) = struct.unpack_from("<I", body, 8)
                count = device.vectors if index == MSIX else 0
                return struct.pack("<IIII", 16, IRQ_FLAGS, index, count)
            case Command.SET_IRQS:
                self._set_interrupts(body, fds)
                return b""
            case Command.RESET:
                device.reset()
                return b""
        raise OSError(errno.ENOTSUP, "not supported")

    def _read(self, body: bytearray) -> bytes:
        offset, region, count = ACCESS.unpack_from(body)
        if region == CONFIG_REGION:
            data = bytes(self._device.config[offset : offset + count]).ljust(count, b"\0")
        else:
            data = self._device.read(region, offset, count)
        return bytes(body[: ACCESS.size]) + data

    def _map(self, body: bytearray, fds: list[int]) -> None:
        _, _, offset, address, size = struct.unpack_from("<IIQQQ", body)
        if fds:
            # Holes of a ROM come too, which nothing can map for writing and no device writes.
            with contextlib.suppress(ValueError, OSError):
                self._memory.add(address, size, fds[0], offset)

    def _set_interrupts(self, body: bytearray, fds: list[int]) -> None:
        """A run of eventfds, or of none; a count of 0 without data turns all off."""
        _, flags, index, start, count = struct.unpack_from("<IIIII", body)
        if index != MSIX:
            return
        if flags & DATA_EVENTFD:
            for vector in range(start, start + count):
                if (old := self._interrupts.pop(vector, None)) is not None:
                    os.close(old)
                if fds:
                    self._interrupts[vector] = fds.pop(0)
        elif flags & DATA_NONE and not count:
            self._forget_interrupts()

    def _forget_interrupts(self) -> None:
        for fd in self._interrupts.values():
            os.close(fd)
        self._interrupts.clear()

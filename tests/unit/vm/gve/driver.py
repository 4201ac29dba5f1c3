"""As much of the gve driver as a test of its device needs, in a memory of this process.

Each method names the driver's function that does the same.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from vm.gve import device, rx, tx
from vm.gve.device import Gvnic
from vm.gve.memory import Memory
from vm.gve.shape import Shape

SIZE = 8 << 20
BASE = 1 << 32
ADMIN, ADMIN_BYTES = BASE, 4096
SCRATCH = BASE + 0x1000
IRQ_TABLE = BASE + 0x8000
RESOURCES = BASE + 0x9000
RINGS = BASE + 0x100000
BUFFERS = BASE + 0x400000
HEADERS = BASE + 0x700000
FRAME = BASE + 0x780000
STRIDE = 64
ENTRIES = 64
BUFFER = 4096


@dataclass
class Packet:
    """What a poll of an rx queue gave."""

    headers: bytes
    payload: bytes
    kind: int
    mss: int
    buffers: int
    overflow: bool


class Driver:
    """Of one NIC."""

    def __init__(self, mac: bytes, shape: Shape | None = None) -> None:
        fd = os.memfd_create("guest")
        os.ftruncate(fd, SIZE)
        self.memory = Memory()
        self.memory.add(BASE, SIZE, fd, 0)
        os.close(fd)
        self.nic = Gvnic(mac, shape or Shape(), self.memory)
        self.fired: list[int] = []
        self.nic.interrupts.fire = self.fired.append
        self.issued = 0

    # gve_adminq.c

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.nic.write(device.REGISTERS, offset, value.to_bytes(size, "big"))

    def status(self) -> int:
        return int.from_bytes(self.nic.read(device.REGISTERS, device.DEVICE_STATUS, 4), "big")

    def start(self) -> None:
        """gve_adminq_alloc(), gve_setup_device_resources()."""
        self.write(device.ADMIN_LENGTH, ADMIN_BYTES, 2)
        self.write(device.ADMIN_HIGH, ADMIN >> 32)
        self.write(device.ADMIN_LOW, ADMIN & 0xFFFFFFFF)
        self.write(device.DRIVER_STATUS, device.RUN)
        blocks = self.nic.shape.blocks
        body = struct.pack(">QQIIIIB", SCRATCH, IRQ_TABLE, 0, blocks, STRIDE, 0, 3)
        assert self.command(0x2, body) == 1

    def command(self, opcode: int, body: bytes = b"") -> int | None:
        """gve_adminq_execute_cmd(); None if there is no answer."""
        slot = self.memory.at(ADMIN + self.issued % (ADMIN_BYTES // 64) * 64, 64)
        slot[:] = struct.pack(">II", opcode, 0) + body.ljust(56, b"\0")
        self.issued += 1
        self.write(device.ADMIN_DOORBELL, self.issued)
        events = self.nic.read(device.REGISTERS, device.ADMIN_EVENTS, 4)
        if int.from_bytes(events, "big") != self.issued:
            return None
        return int(struct.unpack_from(">I", slot, 4)[0])

    def doorbell(self, index: int, value: int) -> None:
        self.nic.write(device.DOORBELLS, index * 4, value.to_bytes(4, "little"))

    def index_at(self, address: int) -> int:
        return int(struct.unpack_from(">I", self.memory.at(address, 4))[0])

    def arm(self, block: int) -> None:
        """gve_write_irq_doorbell_dqo()."""
        self.doorbell(self.index_at(IRQ_TABLE + block * STRIDE), 1)

    def create_rx(self, number: int, *, header: int = 256, rsc: bool = True) -> RxRing:
        return RxRing(self, number, header, rsc)

    def create_tx(self, number: int = 0) -> TxRing:
        return TxRing(self, number)


class RxRing:
    """gve_rx_dqo.c"""

    def __init__(self, driver: Driver, number: int, header: int, rsc: bool) -> None:
        self.driver, self.number = driver, number
        self.block = driver.nic.shape.queues + number
        self.completions = RINGS + number * 0x10000
        self.buffers = self.completions + 0x8000
        resources = RESOURCES + number * 64
        body = struct.pack(
            *(">IIIIQQQIHHHBxH", number, number, 0, self.block, resources),
            *(self.completions, self.buffers, 0xFFFFFFFF, ENTRIES, BUFFER, ENTRIES, rsc, header),
        )
        driver.memory.at(self.completions, ENTRIES * 32)[:] = bytes(ENTRIES * 32)
        self.status = driver.command(0x6, body)
        self.index = driver.index_at(resources)
        self.tail = self.head = 0
        self.generation = 0

    def post(self, count: int) -> None:
        """gve_rx_post_buffers_dqo()."""
        for _ in range(count):
            ident = self.tail
            at = self.driver.memory.at(self.buffers + self.tail * 32, 32)
            rx.POSTED.pack_into(at, 0, ident, BUFFERS + ident * BUFFER, HEADERS + ident * 256)
            self.tail = (self.tail + 1) % ENTRIES
        self.driver.doorbell(self.index, self.tail)

    def poll(self) -> list[Packet]:
        """gve_rx_poll_dqo()."""
        packets: list[Packet] = []
        headers, payload, buffers, overflow = b"", b"", 0, False
        memory = self.driver.memory
        while True:
            at = memory.at(self.completions + self.head * 32, 32)
            (word,) = struct.unpack_from("<H", at, 4)
            if word >> rx.GENERATION & 1 == self.generation:
                assert not buffers, "a packet has no end"
                return packets
            flags, status, _, _, _, ident, mss, _ = rx.REST.unpack_from(at, 6)
            if flags & rx.SPLIT and not status & rx.OVERFLOW:
                headers = bytes(memory.at(HEADERS + ident * 256, flags & 0x3FF))
            overflow = overflow or bool(status & rx.OVERFLOW)
            payload += bytes(memory.at(BUFFERS + ident * BUFFER, word & 0x3FFF))
            buffers += 1
            self.head = (self.head + 1) % ENTRIES
            self.generation ^= not self.head
            if status & rx.END:
                (kind,) = struct.unpack_from("<H", at, 2)
                segment = mss if flags & rx.RSC else 0
                packets.append(Packet(headers, payload, kind, segment, buffers, overflow))
                headers, payload, buffers, overflow = b"", b"", 0, False


class TxRing:
    """gve_tx_dqo.c"""

    def __init__(self, driver: Driver, number: int) -> None:
        self.driver, self.number = driver, number
        self.ring = RINGS + 0x100000 + number * 0x10000
        self.completions = self.ring + 0x8000
        resources = RESOURCES + 0x400 + number * 64
        body = struct.pack(
            *(">IIQQIIQHH", number, 0, resources, self.ring, 0xFFFFFFFF, number),
            *(self.completions, ENTRIES, ENTRIES),
        )
        self.status = driver.command(0x5, body)
        self.index = driver.index_at(resources)
        self.tail = self.head = 0
        self.generation = 0

    def send(self, frame: bytes, *, mss: int = 0, tag: int = 7, pieces: int = 1) -> None:
        """gve_tx_add_skb_no_copy_dqo()."""
        if mss:
            words = struct.pack("<IHBxB7x", len(frame), mss, 54, tx.SEGMENTED | 1 << 5)
            self._put(words)
        size = -(-len(frame) // pieces)
        for start in range(0, len(frame), size):
            part = frame[start : start + size]
            self.driver.memory.at(FRAME + start, len(part))[:] = part
            last = tx.END | tx.REPORT if start + size >= len(frame) else 0
            kind = tx.PACKET | tx.CHECKSUM | last
            self._put(struct.pack("<QBxHHH", FRAME + start, kind, 0, tag, len(part)))
        self.driver.doorbell(self.index, self.tail)

    def _put(self, descriptor: bytes) -> None:
        self.driver.memory.at(self.ring + self.tail * 16, 16)[:] = descriptor
        self.tail = (self.tail + 1) % ENTRIES

    def poll(self) -> list[tuple[int, int]]:
        """Kinds and tags or positions, as gve_clean_tx_done_dqo() finds them."""
        found: list[tuple[int, int]] = []
        while True:
            at = self.driver.memory.at(self.completions + self.head * 8, 8)
            word, value = struct.unpack_from("<HH", at)
            if word >> 15 == self.generation:
                return found
            assert word & 0x7FF == self.number
            found.append((word >> 11 & 7, value))
            self.head = (self.head + 1) % ENTRIES
            self.generation ^= not self.head


def pair() -> tuple[Driver, Driver]:
    """Two NICs, back to back, with their drivers started."""
    drivers = Driver(b"\x02\0\0\0\0\x01"), Driver(b"\x02\0\0\0\0\x02")
    drivers[0].nic.peer, drivers[1].nic.peer = drivers[1].nic, drivers[0].nic
    for each in drivers:
        each.start()
    return drivers

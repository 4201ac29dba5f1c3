"""One NIC: its registers, its doorbells, and the parts that they lead to.

BAR 0 has the registers (gve_register.h, big endian), BAR 2 the doorbells (of 32 bits, little
endian where the format is DQO), BAR 1 the MSI-X table, which QEMU keeps. The driver asks for two
blocks a queue, those of tx queues first, and one interrupt for management
(gve_main.c:gve_alloc_notify_blocks()).
"""

from __future__ import annotations

import struct
from collections import Counter

from vm.gve.admin import AdminQueue
from vm.gve.faults import Faults
from vm.gve.frame import Parsed, parse, set_checksum
from vm.gve.interrupts import Interrupts
from vm.gve.link import Link
from vm.gve.memory import Memory
from vm.gve.rx import RxQueue
from vm.gve.shape import Shape
from vm.gve.steering import Steering
from vm.gve.tx import TxQueue

VENDOR, DEVICE, SUBSYSTEM = 0x1AE0, 0x0042, 0x0058
REVISION = 1
"""From 1 on, the admin queue is told by address (gve_adminq.c:gve_adminq_alloc())."""
REGISTERS, MSIX_TABLE, DOORBELLS = 0, 1, 2
DEVICE_STATUS, DRIVER_STATUS, MOST_TX, MOST_RX = 0x00, 0x04, 0x08, 0x0C
ADMIN_DOORBELL, ADMIN_EVENTS = 0x14, 0x18
DRIVER_VERSION, ADMIN_HIGH, ADMIN_LOW, ADMIN_LENGTH = 0x1F, 0x20, 0x24, 0x28
RESET_WANTED, LINK_UP, IS_RESET = 1 << 1, 1 << 2, 1 << 4
RUN, RESET = 1, 2
TX_DOORBELLS, RX_DOORBELLS, IRQ_DOORBELLS = 0, 4096, 8192
STEP = 16
"""Doorbells of two queues are so far apart: a cache line."""
LOW = 0xFFFFFFFF


class Gvnic:
    """What a driver sees by its registers, its doorbells and in its memory."""

    peer: Gvnic
    """At the other end of the link."""

    def __init__(self, mac: bytes, shape: Shape, memory: Memory) -> None:
        self.mac, self.shape = mac, shape
        self.faults = Faults()
        self.books: Counter[str] = Counter()
        self.of_queues: dict[int, Counter[str]] = {}
        """The books of each rx queue, whichever ring it had."""
        self.vectors = shape.blocks + 1
        self.regions = {REGISTERS: 0x1000, MSIX_TABLE: 0x1000, DOORBELLS: 0x10000}
        self.config = self._configuration()
        self.interrupts = Interrupts()
        self.link = Link(self.faults, self._receive, self._count)
        self.version = b""
        """What the driver calls itself."""
        self._memory = memory
        self.reset()

    def _configuration(self) -> bytearray:
        """Of PCI, with MSI-X as its only capability."""
        config = bytearray(256)
        struct.pack_into("<HHHH", config, 0, VENDOR, DEVICE, 0, 0x10)  # it has capabilities
        config[8:12] = bytes([REVISION, 0, 0, 2])  # class: Ethernet
        struct.pack_into("<HH", config, 0x2C, VENDOR, SUBSYSTEM)
        config[0x34] = 0x40
        table = (0x11, 0, self.vectors - 1, MSIX_TABLE, 0x800 | MSIX_TABLE)
        struct.pack_into("<BBHII", config, 0x40, *table)
        return config

    def reset(self) -> None:
        """As after power-on. The books and the faults stay: they are not the device's."""
        self.admin = AdminQueue(self, self._memory)
        self.interrupts.configure(0)
        self.tx: dict[int, TxQueue] = {}
        self.rx: dict[int, RxQueue] = {}
        self.steering = Steering(self.shape.queues)
        self._is_reset, self._reset_wanted = True, False
        self._driver_status = 0
        self._version = b""

    def _count(self, what: str) -> None:
        self.books[what] += 1

    def queue_books(self, number: int) -> Counter[str]:
        return self.of_queues.setdefault(number, Counter())

    # Doorbells are told to the driver as indices.

    def tx_doorbell(self, number: int) -> int:
        return TX_DOORBELLS + STEP * number

    def rx_doorbell(self, number: int) -> int:
        return RX_DOORBELLS + STEP * number

    def irq_doorbell(self, block: int) -> int:
        return IRQ_DOORBELLS + STEP * block

    # Registers.

    @property
    def status(self) -> int:
        """gve_main.c:gve_service_task() acts on it."""
        return (
            (LINK_UP if self.link.up else 0)
            | (IS_RESET if self._is_reset else 0)
            | (RESET_WANTED if self._reset_wanted else 0)
        )

    def read(self, region: int, offset: int, size: int) -> bytes:
        """A register; what is none reads as 0."""
        values = {
            DEVICE_STATUS: self.status,
            DRIVER_STATUS: self._driver_status,
            MOST_TX: self.shape.queues,
            MOST_RX: self.shape.queues,
            ADMIN_EVENTS: self.admin.events,
        }
        value = values.get(offset, 0) if region == REGISTERS else 0
        return struct.pack(">I", value)[:size].ljust(size, b"\0")

    def write(self, region: int, offset: int, data: bytes) -> None:
        """A register or a doorbell; what is neither is ignored."""
        if region == DOORBELLS:
            self._doorbell(offset // 4, int.from_bytes(data, "little"))
            self.interrupts.flush()
            self.peer.interrupts.flush()
        elif region == REGISTERS:
            self._write_register(offset, data)

    def _write_register(self, offset: int, data: bytes) -> None:
        value = int.from_bytes(data, "big")
        if offset == ADMIN_DOORBELL:
            self.admin.doorbell(value)
        elif offset == DRIVER_VERSION:
            self._version += data
            if data == b"\n":
                self.version, self._version = self._version.strip(), b""
        elif offset == ADMIN_HIGH:
            self.admin.base = self.admin.base & LOW | value << 32
        elif offset == ADMIN_LOW:
            self.admin.base = self.admin.base & ~LOW | value
        elif offset == ADMIN_LENGTH:
            self.admin.length = value
        elif offset == DRIVER_STATUS:
            if value & RESET:  # gve_adminq.c:gve_adminq_release() waits for IS_RESET
                self.books["resets"] += 1
                self.reset()
            elif value & RUN:
                self._is_reset = False
            self._driver_status = value

    def _doorbell(self, index: int, value: int) -> None:
        if index >= IRQ_DOORBELLS:
            self.interrupts.arm((index - IRQ_DOORBELLS) // STEP, value)
        elif index >= RX_DOORBELLS:
            if queue := self.rx.get((index - RX_DOORBELLS) // STEP):
                queue.doorbell(value)
        elif sender := self.tx.get((index - TX_DOORBELLS) // STEP):
            self._transmit(sender, value)

    # Frames.

    def _transmit(self, queue: TxQueue, tail: int) -> None:
        for sent in queue.packets(tail):
            self.books["sent"] += 1
            frame: bytes | bytearray = sent.frame
            parsed = parse(frame)
            if sent.checksum and not sent.mss:
                frame = bytearray(frame)
                set_checksum(frame, parsed)
            self.peer.link.send(frame, parsed, sent.mss)
        self.interrupts.want(queue.setting.block)

    def _receive(self, frame: bytes | bytearray, parsed: Parsed, mss: int) -> None:
        number, hashed = self.steering.queue(parsed)
        queue = self.rx.get(number)
        if queue is None:
            self.books["no_queue"] += 1
            return
        queue.starved = bool(self.faults.starve)
        if self.faults.overflow:
            queue.overflow_next, self.faults.overflow = True, 0
        if queue.take(frame, parsed, hashed, mss):
            self.interrupts.want(queue.setting.block)

    # What a control socket asks for.

    def set_link(self, *, up: bool) -> None:
        """Both ends of the cable see it; this is one of them."""
        self.link.up = up
        self.interrupts.manage()

    def want_reset(self) -> None:
        """Ask the driver for a reset (gve_main.c:gve_handle_status())."""
        self._reset_wanted = True
        self.interrupts.manage()

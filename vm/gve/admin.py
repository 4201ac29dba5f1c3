"""The admin queue: commands of 64 bytes, big endian, by which the driver sets the NIC up.

gve_adminq.c. The driver writes how many it has issued to the doorbell, waits until the event
counter is as high (gve_adminq_wait_for_cmd(): every 20 ms, for 2 s) and reads each command's
status. A command that no handler is for is unimplemented, which it takes for EOPNOTSUPP
(gve_adminq_parse_err()).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from vm.gve import rx, steering, tx
from vm.gve.faults import Faults
from vm.gve.frame import PTYPES
from vm.gve.interrupts import Interrupts
from vm.gve.memory import Memory, NotMapped
from vm.gve.shape import Shape

COMMAND = 64
PASSED = 1
FAILED_PRECONDITION, INVALID, NOT_FOUND = 0xFFFFFFF5, 0xFFFFFFF7, 0xFFFFFFF8
UNIMPLEMENTED = 0xFFFFFFFE
CONFIGURE_FLOW_RULE = 0x101
ADD_RULE, REMOVE_RULE, CLEAR_RULES = 0, 1, 2
QUERY_RULES, QUERY_LOCATIONS = 0, 1
RULES_HEAD, QUERIED_RULE = 16, 88
SPEED_MBIT = 100_000
ETHERNET_MTU = 1500
# gve_adminq_process_device_options(): the first word of the option DQO RDA says which of the
# others count.
DQO_RDA, MODIFY_RING, JUMBO, BUFFER_SIZES, FLOW_STEERING, RSS_CONFIG = 4, 6, 8, 0xA, 0xB, 0xE
FEATURES = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 7


class Nic(Protocol):
    """What commands act on."""

    mac: bytes
    shape: Shape
    faults: Faults
    books: Counter[str]
    interrupts: Interrupts
    steering: steering.Steering
    tx: dict[int, tx.TxQueue]
    rx: dict[int, rx.RxQueue]

    def queue_books(self, number: int) -> Counter[str]: ...

    def tx_doorbell(self, number: int) -> int: ...

    def rx_doorbell(self, number: int) -> int: ...

    def irq_doorbell(self, block: int) -> int: ...


class AdminQueue:
    """What one NIC does for its driver's commands."""

    def __init__(self, nic: Nic, memory: Memory) -> None:
        self._nic = nic
        self._memory = memory
        self.base = self.length = 0
        """Where the driver has its ring."""
        self.events = 0
        """Commands done."""
        self._handlers: dict[int, Callable[[bytes], int | None]] = {
            0x1: self._describe_device,
            0x2: self._configure_resources,
            0x5: self._create_tx,
            0x6: self._create_rx,
            0x7: self._destroy_tx,
            0x8: self._destroy_rx,
            0x9: self._deconfigure_resources,
            0xA: self._configure_rss,
            0xC: self._report_statistics,
            0xD: self._report_speed,
            0xE: self._packet_types,
            0xF: self._verify_driver,
            0x10: self._query_rules,
            0x12: self._query_rss,
            0xFF: self._extended,
        }

    def doorbell(self, until: int) -> None:
        """Commands up to this count were issued."""
        entries = self.length // COMMAND
        while entries and self.events != until:
            if self._nic.faults.hang:
                self._nic.faults.hang -= self._nic.faults.hang > 0
                self._nic.books["hung_commands"] += 1
                return
            slot = self._memory.at(self.base + self.events % entries * COMMAND, COMMAND)
            (opcode,) = struct.unpack_from(">I", slot)
            struct.pack_into(">I", slot, 4, self._do(opcode, bytes(slot[8:])))
            self.events = (self.events + 1) & 0xFFFFFFFF

    def _do(self, opcode: int, body: bytes) -> int:
        handler = self._handlers.get(opcode)
        if handler is None:
            return UNIMPLEMENTED
        try:
            status = handler(body)
        except steering.NoRule:
            return NOT_FOUND
        except (NotMapped, struct.error):
            return INVALID
        return PASSED if status is None else status

    def _put(self, address: int, data: bytes) -> None:
        self._memory.at(address, len(data))[:] = data

    # What it is.

    def _describe_device(self, body: bytes) -> None:
        address, _, _ = struct.unpack_from(">QII", body)
        shape = self._nic.shape
        options = [
            (DQO_RDA, struct.pack(">II", FEATURES, 0)),
            (JUMBO, struct.pack(">IHxx", FEATURES, shape.mtu)),
            (BUFFER_SIZES, struct.pack(">IHH", FEATURES, shape.buffer_bytes, shape.header_bytes)),
            (MODIFY_RING, struct.pack(">IHHHH", FEATURES, 4096, 4096, 64, 64)),
            (FLOW_STEERING, struct.pack(">III", FEATURES, 0, steering.MOST_RULES)),
            (
                RSS_CONFIG,
                struct.pack(">IHH", FEATURES, steering.KEY_BYTES, steering.TABLE_ENTRIES),
            ),
        ]
        packed = b"".join(struct.pack(">HHI", kind, len(o), 0) + o for kind, o in options)
        head = struct.pack(
            ">QHHHHHHHH6sHH6x",
            *(0, 0, shape.ring, shape.ring, shape.queues, ETHERNET_MTU),
            *(shape.blocks, 0, 0),  # event counters, and pages of queue formats without RDA
            *(self._nic.mac, len(options), 40 + len(packed)),
        )
        self._put(address, head + packed)

    def _packet_types(self, body: bytes) -> None:
        length, address = struct.unpack_from(">QQ", body)
        table = b"".join(bytes(each) for each in PTYPES)
        self._put(address, table.ljust(length, b"\0"))

    def _verify_driver(self, _body: bytes) -> None:
        """Any driver will do."""

    def _report_speed(self, body: bytes) -> None:
        (address,) = struct.unpack_from(">Q", body)
        self._put(address, struct.pack(">Q", SPEED_MBIT))

    def _report_statistics(self, _body: bytes) -> None:
        """The driver asks for the NIC's own counters, and takes none for 0."""

    # Resources and queues.

    def _configure_resources(self, body: bytes) -> None:
        _, at, _, count, stride, _, _ = struct.unpack_from(">QQIIIIB", body)
        for block in range(count):
            self._put(at + block * stride, struct.pack(">I", self._nic.irq_doorbell(block)))
        self._nic.interrupts.configure(count)

    def _deconfigure_resources(self, _body: bytes) -> None:
        self._nic.interrupts.configure(0)

    def _refused(self) -> bool:
        faults = self._nic.faults
        if not faults.refuse:
            return False
        faults.refuse -= faults.refuse > 0
        self._nic.books["refused_commands"] += 1
        return True

    def _create_tx(self, body: bytes) -> int | None:
        number, resources, ring, block, done, entries, completions = struct.unpack_from(
            ">I4xQQ4xIQHH", body
        )
        if self._refused():
            return FAILED_PRECONDITION
        setting = tx.Setting(number, block, ring, entries, done, completions)
        self._nic.tx[number] = tx.TxQueue(setting, self._memory)
        self._put(resources, struct.pack(">II", self._nic.tx_doorbell(number), number))
        return None

    def _create_rx(self, body: bytes) -> int | None:
        number, block, resources, done, ring, completions, buffer, entries, rsc, header = (
            struct.unpack_from(">I8xIQQQ4xHHHBxH", body)
        )
        if self._refused():
            return FAILED_PRECONDITION
        setting = rx.Setting(
            *(number, block, done, completions, ring, entries, buffer, header, bool(rsc))
        )
        self._nic.rx[number] = rx.RxQueue(setting, self._memory, self._nic.queue_books(number))
        self._put(resources, struct.pack(">II", self._nic.rx_doorbell(number), number))
        return None

    def _destroy_tx(self, body: bytes) -> int | None:
        (number,) = struct.unpack_from(">I", body)
        return None if self._nic.tx.pop(number, None) else NOT_FOUND

    def _destroy_rx(self, body: bytes) -> int | None:
        (number,) = struct.unpack_from(">I", body)
        return None if self._nic.rx.pop(number, None) else NOT_FOUND

    # Steering.

    def _configure_rss(self, body: bytes) -> None:
        types, key_bytes, entries, key_at, table_at = struct.unpack_from(">H2xHHQQ", body)
        key = bytes(self._memory.at(key_at, key_bytes)) if key_bytes else None
        table = None
        if entries:
            table = list(struct.unpack(f">{entries}I", self._memory.at(table_at, entries * 4)))
        self._nic.steering.set_hash(types, key, table)

    def _query_rss(self, body: bytes) -> None:
        _, address = struct.unpack_from(">QQ", body)
        state = self._nic.steering
        table = struct.pack(f">{len(state.table)}I", *state.table)
        length = 8 + len(state.key) + len(table)
        self._put(address, struct.pack(">IHBx", length, state.hash_types, 1) + state.key + table)

    def _extended(self, body: bytes) -> int | None:
        opcode, length, address = struct.unpack_from(">IIQ", body)
        if opcode != CONFIGURE_FLOW_RULE:
            return UNIMPLEMENTED
        inner = bytes(self._memory.at(address, length))
        what, rule, location = struct.unpack_from(f">H2x{steering.RULE.size}sI", inner)
        if what == ADD_RULE:
            self._nic.steering.add_rule(location, rule)
        elif what == REMOVE_RULE:
            self._nic.steering.remove_rule(location)
        else:
            self._nic.steering.clear_rules()
        return None

    def _query_rules(self, body: bytes) -> None:
        what, start, available, address = struct.unpack_from(">H2xIQQ", body)
        rules = list(self._nic.steering.rules(start))
        room = available - RULES_HEAD
        if what == QUERY_RULES:
            rules = rules[: room // QUERIED_RULE]
            data = b"".join(struct.pack(">I", location) + rule for location, rule in rules)
        elif what == QUERY_LOCATIONS:
            rules = rules[: room // 4]
            data = b"".join(struct.pack(">I", location) for location, _ in rules)
        else:
            rules, data = [], b""
        total = sum(1 for _ in self._nic.steering.rules())
        head = (total, steering.MOST_RULES, len(rules), RULES_HEAD + len(data))
        self._put(address, struct.pack(">IIII", *head) + data)

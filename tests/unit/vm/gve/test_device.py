"""Two NICs with a driver each, as gve would drive them, in a memory of this process."""

from __future__ import annotations

import struct

import pytest

from tests.unit.vm.gve.driver import SCRATCH, Driver, RxRing, pair
from tests.unit.vm.gve.frames import ARP, right, tcp
from vm.gve import device, tx
from vm.gve.frame import Kind

DATA = bytes(range(256)) * 40


def steered(receiver: Driver, queue: int) -> None:
    """Every flow to one queue (GVE_ADMINQ_CONFIGURE_RSS)."""
    receiver.nic.steering.set_hash(0xFFFF, None, [queue] * 128)


def both(*, rsc: bool = True, header: int = 256) -> tuple[Driver, Driver, RxRing]:
    """A sender, a receiver, and the receiver's queue 1, with every flow steered there."""
    sender, receiver = pair()
    ring = receiver.create_rx(1, rsc=rsc, header=header)
    steered(receiver, 1)
    return sender, receiver, ring


def test_headers_are_split_and_a_large_frame_comes_as_one_packet() -> None:
    sender, _, ring = both()
    ring.post(32)
    sender.create_tx().send(tcp(DATA), mss=1448)
    (packet,) = ring.poll()
    assert packet.payload == DATA
    assert packet.kind == Kind.TCP4
    assert packet.mss == 1448
    assert len(packet.headers) == 54
    assert packet.buffers == 3


def test_without_rsc_it_comes_in_frames() -> None:
    sender, receiver, ring = both(rsc=False)
    ring.post(32)
    sender.create_tx().send(tcp(DATA, v6=True), mss=1448)
    packets = ring.poll()
    assert b"".join(packet.payload for packet in packets) == DATA
    assert [packet.mss for packet in packets] == [0] * 8
    assert all(right(packet.headers + packet.payload) for packet in packets)
    assert receiver.nic.of_queues[1]["split_bytes"] == len(DATA)


def test_without_split_headers_are_in_the_buffer() -> None:
    sender, receiver, ring = both(header=0)
    ring.post(32)
    sender.create_tx().send(tcp(b"payload"))
    (packet,) = ring.poll()
    assert packet.headers == b""
    assert right(packet.payload)
    assert receiver.nic.of_queues[1]["whole_bytes"] == 54 + 7


def test_a_packet_without_payload_takes_a_buffer() -> None:
    sender, _, ring = both()
    ring.post(32)
    sender.create_tx().send(tcp(b""))
    (packet,) = ring.poll()
    assert (packet.payload, packet.buffers) == (b"", 1)


def test_checksum_offload_sets_it() -> None:
    sender, _, ring = both()
    ring.post(32)
    frame = bytearray(tcp(b"payload"))
    frame[50:52] = b"\0\0"
    sender.create_tx().send(bytes(frame), pieces=3)
    (packet,) = ring.poll()
    assert right(packet.headers + packet.payload)


def test_no_buffer_no_frame_and_none_is_kept() -> None:
    sender, receiver, ring = both()
    send = sender.create_tx().send
    send(tcp(b"lost"))
    ring.post(32)
    assert ring.poll() == []
    assert receiver.nic.of_queues[1]["no_buffer"] == 1
    send(tcp(b"there"))
    assert [packet.payload for packet in ring.poll()] == [b"there"]


def test_a_large_frame_that_does_not_fit_comes_as_far_as_it_does() -> None:
    sender, receiver, ring = both()
    ring.post(2)
    sender.create_tx().send(tcp(DATA), mss=1448)
    packets = ring.poll()
    assert b"".join(packet.payload for packet in packets) == DATA[: 2 * 1448]
    assert receiver.nic.of_queues[1]["no_buffer"] == 6


def test_rings_wrap() -> None:
    sender, _, ring = both()
    ring.post(32)
    transmit = sender.create_tx()
    for number in range(200):
        transmit.send(tcp(b"%d" % number), tag=number)
        assert [packet.payload for packet in ring.poll()] == [b"%d" % number]
        ring.post(1)
        kinds = dict(transmit.poll())
        assert kinds == {tx.POSITION: transmit.tail, tx.PACKET_DONE: number}


def test_an_interrupt_fires_once_until_it_is_armed() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    send = sender.create_tx().send
    send(tcp(b"1"))
    assert receiver.fired == []
    receiver.arm(ring.block)
    assert receiver.fired == [ring.block]  # for what came before
    send(tcp(b"2"))
    assert receiver.fired == [ring.block]
    receiver.arm(ring.block)
    receiver.arm(ring.block)
    send(tcp(b"3"))
    send(tcp(b"4"))
    assert receiver.fired == [ring.block] * 3


def test_arp_goes_to_queue_0() -> None:
    sender, receiver, ring = both()
    first = receiver.create_rx(0)
    for each in (first, ring):
        each.post(32)
    sender.create_tx().send(ARP)
    assert [packet.payload for packet in first.poll()] == [ARP]
    assert ring.poll() == []


def test_a_queue_that_is_gone_gets_nothing() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    assert receiver.command(0x8, struct.pack(">I", 1)) == 1
    assert receiver.command(0x8, struct.pack(">I", 1)) == 0xFFFFFFF8
    sender.create_tx().send(tcp(b"x"))
    assert receiver.nic.books["no_queue"] == 1


def test_unknown_commands_and_addresses_are_answered() -> None:
    driver, _ = pair()
    assert driver.command(0x77) == 0xFFFFFFFE
    assert driver.command(0x1, struct.pack(">QII", 0x10, 1, 4096)) == 0xFFFFFFF7
    assert driver.command(0xFF, struct.pack(">IIQ", 0x999, 8, SCRATCH)) == 0xFFFFFFFE


def test_reset_is_wanted_and_done() -> None:
    driver, _ = pair()
    driver.create_rx(1)
    driver.nic.want_reset()
    assert driver.fired == [driver.nic.shape.blocks]  # the management interrupt
    assert driver.status() & device.RESET_WANTED
    driver.write(device.DRIVER_STATUS, device.RESET)
    assert driver.status() == device.LINK_UP | device.IS_RESET
    assert driver.nic.rx == {}
    driver.issued = 0
    driver.start()
    assert not driver.status() & device.IS_RESET


@pytest.mark.parametrize("count", [1, 2])
def test_hung_commands_are_never_answered(count: int) -> None:
    driver, _ = pair()
    driver.nic.faults.set({"hang": count})
    for _ in range(count):
        assert driver.command(0xC) is None
    driver.write(device.DRIVER_STATUS, device.RESET)
    driver.issued = 0
    driver.start()


def test_a_refused_queue_is_told_and_the_next_one_comes() -> None:
    driver, _ = pair()
    driver.nic.faults.set({"refuse": 1})
    assert driver.create_rx(1).status == 0xFFFFFFF5
    assert driver.create_rx(1).status == 1


def test_frames_are_dropped_and_corrupted_ones_too() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    send = sender.create_tx().send
    receiver.nic.faults.set({"drop": 1_000_000})
    send(tcp(b"1"))
    receiver.nic.faults.set({"drop": 0, "corrupt": 1_000_000})
    send(tcp(b"2"))
    assert ring.poll() == []
    assert receiver.nic.books == {"dropped": 1, "corrupted": 1, "bad_checksum": 1}


def test_late_frames_come_later() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    send = sender.create_tx().send
    receiver.nic.faults.set({"late": 1_000_000, "late_ms": 0})
    send(tcp(b"1"))
    receiver.nic.faults.clear()
    send(tcp(b"2"))
    assert receiver.nic.link.wait() == 0
    receiver.nic.link.deliver_late()
    assert [packet.payload for packet in ring.poll()] == [b"2", b"1"]
    assert receiver.nic.link.wait() is None


def test_a_link_that_is_down_carries_nothing_and_is_told() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    receiver.nic.set_link(up=False)
    assert not receiver.status() & device.LINK_UP
    sender.create_tx().send(tcp(b"x"))
    assert ring.poll() == []
    assert receiver.nic.books["link_down"] == 1


def test_starving_and_overflow() -> None:
    sender, receiver, ring = both()
    ring.post(32)
    send = sender.create_tx().send
    receiver.nic.faults.set({"starve": 1})
    send(tcp(b"1"))
    receiver.nic.faults.set({"starve": 0, "overflow": 1})
    send(tcp(b"2"))
    send(tcp(b"3"))
    one, other = ring.poll()
    assert one.overflow
    assert one.payload.endswith(b"2")
    assert (other.overflow, other.payload) == (False, b"3")


def test_rules_by_command_and_back() -> None:
    driver, _ = pair()
    rule = struct.pack(">HH80s", 0, 3, bytes(range(80)))
    for location in (7, 2):
        body = struct.pack(">HH84sI", 0, 0, rule, location)
        driver.memory.at(SCRATCH, 92)[:] = body
        assert driver.command(0xFF, struct.pack(">IIQ", 0x101, 92, SCRATCH)) == 1
    assert driver.command(0x10, struct.pack(">H2xIQQ", 0, 0, 4096, SCRATCH)) == 1
    total, most, queried, size = struct.unpack(">IIII", driver.memory.at(SCRATCH, 16))
    assert (total, most, queried, size) == (2, 512, 2, 16 + 2 * 88)
    found = bytes(driver.memory.at(SCRATCH + 16, 88))
    assert found == struct.pack(">I", 2) + rule


def test_rss_by_command_and_back() -> None:
    driver, _ = pair()
    key, table = bytes(range(40)), struct.pack(">128I", *[2] * 128)
    driver.memory.at(SCRATCH, 40)[:] = key
    driver.memory.at(SCRATCH + 64, 512)[:] = table
    body = struct.pack(">H2xHHQQ", 0xFFFF, 40, 128, SCRATCH, SCRATCH + 64)
    assert driver.command(0xA, body) == 1
    assert driver.command(0x12, struct.pack(">QQ", 4096, SCRATCH + 1024)) == 1
    assert bytes(driver.memory.at(SCRATCH + 1032, 40 + 512)) == key + table

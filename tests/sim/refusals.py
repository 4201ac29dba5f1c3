"""What makes the kernel refuse a registration, done for real with bare system calls."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._queue.refill import region_bytes
from pyzcrx.nic import tables
from pyzcrx.nic.netdev import Netdev
from pyzcrx.uapi import Setup

SYS_BPF = 321  # x86-64
BPF_PROG_LOAD, BPF_LINK_CREATE = 5, 28
BPF_PROG_TYPE_XDP, BPF_XDP = 6, 37
BPF_F_XDP_HAS_FRAGS = 1 << 5  # without it a card with header split takes no program
XDP_FLAGS_SKB_MODE = 2
SOL_XDP = 283
XDP_RX_RING, XDP_UMEM_REG, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING = 2, 4, 5, 6
XDP_COPY = 1 << 1
AF_XDP = 44

RING_FLAGS = Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.CQE32

libc = ctypes.CDLL(None, use_errno=True)

NETDEV_CMD_QUEUE_CREATE = 16

SECCOMP = """
import ctypes, os, struct, sys
# If the system call is io_uring_setup (425): EPERM, else allow.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
insns = b"".join(struct.pack("HBBI", *i) for i in code)
memory = ctypes.create_string_buffer(insns)
prog = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(memory))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, prog, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""A program that runs its arguments under a filter that forbids io_uring."""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def raw_registration(
    *, ring_flags: int = RING_FLAGS, misalign: int = 0, rq_entries: int = 64, **fields: Any
) -> int:
    """The errno of a registration that pyzcrx itself would never make; 0: it went through."""
    ring_bytes = lib.pz_ring_bytes(8, 8)
    memory, area = Mapping.anonymous(ring_bytes), Mapping.anonymous(64 * PAGE)
    size_bytes = region_bytes(max(1, rq_entries), 64)
    rq = Mapping.anonymous(size_bytes)
    ring = ffi.gc(lib.pz_ring_new(), lib.pz_ring_free)
    assert lib.pz_ring_init(ring, 8, 8, ring_flags, memory.address, ring_bytes) == 0
    try:
        area_reg = ffi.new(
            "struct pz_area_reg *", {"addr": area.address + misalign, "len": 32 * PAGE}
        )
        region = ffi.new(
            "struct pz_region_desc *",
            {"size": size_bytes, "user_addr": rq.address, "flags": lib.PZ_MEM_REGION_TYPE_USER},
        )
        reg = ffi.new(
            "struct pz_ifq_reg *",
            {
                "rq_entries": rq_entries,
                "area_ptr": int(ffi.cast("uintptr_t", area_reg)),
                "region_ptr": int(ffi.cast("uintptr_t", region)),
                **fields,
            },
        )
        return int(-lib.pz_register_ifq(ring, reg))
    finally:
        lib.pz_ring_exit(ring)
        for mapping in (memory, area, rq):
            mapping.close()


@contextmanager
def setting(path: str, value: str) -> Iterator[None]:
    """A file of procfs or sysfs says *value*."""
    file = Path(path)
    # Of several words the one in brackets is set.
    before = re.sub(r".*\[(\w+)\].*", r"\1", file.read_text().strip())
    file.write_text(value)
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def xdp_program(interface: str) -> Iterator[None]:
    """``return XDP_PASS``, attached as long as the block lasts, in whatever mode there is."""
    insns = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0))
    license_text = ctypes.create_string_buffer(b"GPL")
    load = struct.pack(
        "=IIQQIIQII16sI",
        BPF_PROG_TYPE_XDP,
        2,
        ctypes.addressof(insns),
        ctypes.addressof(license_text),
        0,
        0,
        0,
        0,
        BPF_F_XDP_HAS_FRAGS,
        b"pass",
        0,
    ) + struct.pack("=I", BPF_XDP)
    for _ in range(100):
        # EAGAIN while a signal is pending, for which io_uring's task work counts.
        program = libc.syscall(SYS_BPF, BPF_PROG_LOAD, load, len(load))
        if program >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    _checked(program, "load XDP program")
    try:
        index = socket.if_nametoindex(interface)
        for flags in (0, XDP_FLAGS_SKB_MODE):
            create = struct.pack("=IIII", program, index, BPF_XDP, flags) + bytes(48)
            link = libc.syscall(SYS_BPF, BPF_LINK_CREATE, create, len(create))
            if link >= 0 or ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.EINVAL):
                break
        _checked(link, "attach XDP program")
        try:
            yield
        finally:
            os.close(link)
    finally:
        os.close(program)


@contextmanager
def af_xdp_socket(interface: str, queue: int) -> Iterator[None]:
    """Bound to a queue, in copy mode."""
    frames = 64
    umem = Mapping.anonymous(frames * 4096)
    fd = _checked(libc.socket(AF_XDP, socket.SOCK_RAW, 0), "AF_XDP socket")
    try:
        # struct xdp_umem_reg: addr, len, chunk_size, headroom, flags, tx_metadata_len
        for option, value in (
            (XDP_UMEM_REG, struct.pack("=QQIIII", umem.address, frames * 4096, 4096, 0, 0, 0)),
            (XDP_UMEM_FILL_RING, struct.pack("=I", frames)),
            (XDP_UMEM_COMPLETION_RING, struct.pack("=I", frames)),
            (XDP_RX_RING, struct.pack("=I", frames)),
        ):
            _checked(
                libc.setsockopt(fd, SOL_XDP, option, value, len(value)), f"XDP option {option}"
            )
        address = struct.pack(
            "=HHIII", AF_XDP, XDP_COPY, socket.if_nametoindex(interface), queue, 0
        )
        _checked(libc.bind(fd, address, len(address)), "bind AF_XDP socket")
        yield
    finally:
        os.close(fd)
        umem.close()


@contextmanager
def lease(interface: str, queue: int) -> Iterator[None]:
    """The queue is lent to a netkit device."""
    subprocess.run(["ip", "link", "add", "numrxqueues", "2", "type", "netkit"], check=True)
    told = subprocess.run(
        ["ip", "-json", "link", "show", "type", "netkit"],
        check=True,
        capture_output=True,
        text=True,
    )
    pair = sorted(json.loads(told.stdout), key=lambda link: int(link["ifindex"]))
    try:
        with Netdev() as netdev:
            netdev.call(
                NETDEV_CMD_QUEUE_CREATE,
                tables.Queue,
                [
                    # The end for the guest; it was made first.
                    ("NETDEV_A_QUEUE_IFINDEX", pair[0]["ifindex"]),
                    ("NETDEV_A_QUEUE_TYPE", tables.QueueType.RX),
                    ("NETDEV_A_QUEUE_LEASE", _lease_of(interface, queue)),
                ],
                "lease queue",
                interface,
            )
        yield
    finally:
        subprocess.run(["ip", "link", "delete", pair[1]["ifname"]], check=True)


def _lease_of(interface: str, queue: int) -> dict[str, Any]:
    wanted = [
        ("NETDEV_A_QUEUE_ID", queue),
        ("NETDEV_A_QUEUE_TYPE", tables.QueueType.RX),
    ]
    return {
        "attrs": [
            ("NETDEV_A_LEASE_IFINDEX", socket.if_nametoindex(interface)),
            ("NETDEV_A_LEASE_QUEUE", {"attrs": wanted}),
        ]
    }

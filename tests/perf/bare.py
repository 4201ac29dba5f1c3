"""A ring that no kernel knows, laid out in memory for whoever plays the kernel.

That one writes completions and moves the tail, and a turn drains them. Entering such a ring
fails with EBADF, which a turn that drained something does not report.

The structures are those of ``liburing.h``, which are part of its shared library's interface and
so do not change.
"""

from __future__ import annotations

import errno
from typing import Any

from cffi import FFI

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE

_ENTRIES_AT = 1024
"""Where the completions begin behind the header, as the kernel's do."""
_SQE_BYTES = 64
_CQE32 = 1 << 11  # IORING_SETUP_CQE32

_liburing = FFI()
_liburing.cdef("""
struct header {
	uint32_t sq_tail, sq_flags, sq_dropped;
	uint32_t cq_head, cq_tail, cq_overflow;
};

struct io_uring_sq {
	uint32_t *khead, *ktail, *kring_mask, *kring_entries, *kflags, *kdropped, *array;
	void *sqes;
	uint32_t sqe_head, sqe_tail;
	size_t ring_sz;
	void *ring_ptr;
	uint32_t ring_mask, ring_entries, sqes_sz, pad;
};

struct io_uring_cq {
	uint32_t *khead, *ktail, *kring_mask, *kring_entries, *kflags, *koverflow;
	void *cqes;
	size_t ring_sz;
	void *ring_ptr;
	uint32_t ring_mask, ring_entries, pad[2];
};

struct io_uring {
	struct io_uring_sq sq;
	struct io_uring_cq cq;
	uint32_t flags;
	int ring_fd;
	uint32_t features;
	int enter_ring_fd;
	uint8_t int_flags, pad[3];
	uint32_t pad2;
};
""")


def _power_of_two(n: int) -> bool:
    return n > 0 and not n & (n - 1)


def lay_out(raw: Any, sq_entries: int, cq_entries: int, memory: int, size_bytes: int) -> int:
    """What ``pz_ring_init`` does for the ring *raw*, with no kernel: 0, or a negative errno.

    The numbers of entries are powers of two; *memory* is as ``pz_ring_init`` needs it.
    """
    if not (_power_of_two(sq_entries) and _power_of_two(cq_entries)):
        return -errno.EINVAL
    if size_bytes < lib.pz_ring_bytes(sq_entries, cq_entries):
        return -errno.EINVAL
    sqes_bytes = -(sq_entries * _SQE_BYTES) // PAGE * -PAGE
    header = _liburing.cast("struct header *", memory + sqes_bytes)

    def at(word: str) -> Any:
        return _liburing.addressof(header[0], word)

    ring: Any = _liburing.cast("struct io_uring *", int(ffi.cast("uintptr_t", raw)))
    ring.sq = {
        # Nobody reads the SQ: its head is its tail, so it is never full.
        "khead": at("sq_tail"),
        "ktail": at("sq_tail"),
        "kflags": at("sq_flags"),
        "kdropped": at("sq_dropped"),
        "ring_mask": sq_entries - 1,
        "ring_entries": sq_entries,
        "sqes": _liburing.cast("void *", memory),
    }
    ring.cq = {
        "khead": at("cq_head"),
        "ktail": at("cq_tail"),
        "koverflow": at("cq_overflow"),
        "ring_mask": cq_entries - 1,
        "ring_entries": cq_entries,
        "cqes": _liburing.cast("void *", memory + sqes_bytes + _ENTRIES_AT),
    }
    ring.flags = _CQE32
    ring.ring_fd = ring.enter_ring_fd = -1
    return 0

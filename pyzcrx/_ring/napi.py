"""IORING_REGISTER_NAPI: busy polling while a ring waits.

Kernel: ``io_uring/napi.c:io_register_napi()`` (6.9); static tracking 6.13.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyzcrx._common.checked import integer
from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx.uapi import NapiOp, NapiTracking, RegisterOp

MAX_BUSY_POLL_US = 10_000
"""The kernel takes no more (``io_napi_register_napi()``)."""


def register(
    ring_fd: int, busy_poll_us: int, *, prefer: bool = False, napi_ids: Sequence[int] = ()
) -> None:
    """See :meth:`pyzcrx.Ring.register_napi`."""
    busy_poll_us = integer("busy polling in us", busy_poll_us, 0, MAX_BUSY_POLL_US)
    napi_ids = [integer("NAPI id", napi_id, 1, (1 << 32) - 1) for napi_id in napi_ids]
    if not busy_poll_us:
        _call(ring_fd, RegisterOp.UNREGISTER_NAPI)
        return
    _call(
        ring_fd,
        RegisterOp.NAPI,
        busy_poll_us=busy_poll_us,
        prefer_busy_poll=bool(prefer),
        opcode=NapiOp.REGISTER,
        op_param=NapiTracking.STATIC if napi_ids else NapiTracking.DYNAMIC,
    )
    for napi_id in dict.fromkeys(napi_ids):
        try:
            _call(ring_fd, RegisterOp.NAPI, opcode=NapiOp.STATIC_ADD_ID, op_param=napi_id)
        except BaseException:
            _call(ring_fd, RegisterOp.UNREGISTER_NAPI)
            raise


def _call(ring_fd: int, what: RegisterOp, **fields: int) -> None:
    argument = ffi.new("struct pz_napi *", fields)
    address = int(ffi.cast("uintptr_t", argument))
    check(lib.pz_register(ring_fd, what, address, 1), "register NAPI")

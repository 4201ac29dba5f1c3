"""Binding an area to an rx queue: which queue, with which buffer length, and until when to try."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

from pyzcrx._ifq.core import IfqCore
from pyzcrx._pressure.policy import Pressure
from pyzcrx._pressure.rx_buf_len import worth_trying
from pyzcrx._queue import bound
from pyzcrx._queue.area import Area
from pyzcrx._queue.queue import InterfaceQueue
from pyzcrx._queue.registration import Wanted
from pyzcrx._ring.core import RingCore
from pyzcrx.errors import BadArgument, InvalidRequest, NotSupported, OutOfRange, QueueBound

_BOUND_RETRY_S = 0.02


class PreparedNic(Protocol):
    """What :meth:`Ring.register_ifq` asks of what :func:`pyzcrx.nic.prepare` gave."""

    @property
    def ifindex(self) -> int: ...
    @property
    def queues(self) -> tuple[int, ...]: ...


def queue_of(
    nic: PreparedNic, interface: str | int | None, rx_queue: int | None
) -> tuple[int, int]:
    """The interface's index and the queue to bind."""
    try:
        ifindex, queues = nic.ifindex, nic.queues
    except AttributeError:
        what = f"nic must be what nic.prepare() gave, not {nic!r}; or give interface="
        raise BadArgument(what) from None
    if interface is not None:
        raise BadArgument("give a prepared NIC or interface=, not both")
    if rx_queue is None:
        free = (queue for queue in queues if not bound.holds(ifindex, (queue,)))
        rx_queue = next(free, queues[0])
    elif rx_queue not in queues:
        prepared = ", ".join(map(str, queues))
        raise BadArgument(f"rx_queue {rx_queue} was not prepared; these were: {prepared}")
    return ifindex, rx_queue


def register(
    ring: RingCore,
    slot: int,
    area: Area,
    wanted: Wanted,
    pressure: Pressure | None,
    *,
    best_length: bool,
    timeout: float,
) -> IfqCore:
    """Register *area* as ifq *slot* of *ring*.

    best_length: with the largest buffers that pay and that the NIC can, whatever *wanted* has.
    timeout: seconds to try again while the queue is bound. Raises as
    :meth:`pyzcrx.Ring.register_ifq` does.
    """
    until = time.monotonic() + timeout
    lengths: tuple[int, ...] = (wanted.rx_buf_len,)
    if best_length:
        lengths = worth_trying(wanted.if_idx or None, area)
    for length in lengths[:-1]:
        try:
            return _register(ring, slot, area, replace(wanted, rx_buf_len=length), pressure, until)
        except (InvalidRequest, NotSupported, OutOfRange):
            continue
    return _register(ring, slot, area, replace(wanted, rx_buf_len=lengths[-1]), pressure, until)


def _register(
    ring: RingCore, slot: int, area: Area, wanted: Wanted, pressure: Pressure | None, until: float
) -> IfqCore:
    while True:
        try:
            return IfqCore(ring, slot, InterfaceQueue(ring, area, wanted), pressure)
        except QueueBound:
            if time.monotonic() >= until:
                raise
            time.sleep(_BOUND_RETRY_S)

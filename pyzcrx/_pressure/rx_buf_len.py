"""How large a buffer is when nobody said.

Large buffers mean few completions, but only where the NIC fills them: a page holds any
frame of 1500 bytes. So a page it is, unless the NIC merges frames (hardware GRO or LRO),
the area lies in huge pages, and it is as large as advised for such buffers: for what the NIC
keeps of them, and for the consumer as many as of pages, since little may come in each.

Kernel: ``net/core/netdev_queues.h:struct netdev_queue_config``, ``rx_page_size`` (7.2);
``io_uring/zcrx.c:io_zcrx_validate_area()``: ERANGE for an area in smaller pieces.
"""

from __future__ import annotations

from pyzcrx._kernel.interface import merges_frames
from pyzcrx._kernel.memory import PAGE
from pyzcrx._pressure.policy import HELD_BYTES, area_advice
from pyzcrx._queue.area import HUGE_PAGE, Area

_LARGEST = 32 << 10
"""Of what drivers take (bnxt and mlx5, more or less) beyond which nothing was gained."""


def worth_trying(interface: str | int | None, area: Area) -> tuple[int, ...]:
    """Lengths in bytes, best first; the last one, 0 for a page, every NIC can."""
    if interface is None or area.dmabuf or not merges_frames(interface):
        return (0,)
    if area._address % HUGE_PAGE or area.size_bytes % HUGE_PAGE:
        return (0,)
    lengths, length = [], _LARGEST
    while length > PAGE:
        held_bytes = HELD_BYTES // PAGE * length
        advice = area_advice(interface, rx_buf_len=length, held_bytes=held_bytes)
        if advice.size_bytes <= area.size_bytes:
            lengths.append(length)
        length //= 2
    return (*lengths, 0)

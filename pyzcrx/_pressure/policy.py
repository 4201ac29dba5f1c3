"""What happens before an area runs out, and how large it should be.

TCP cannot slow a sender down for a full area: packets are dropped, of every connection
on the queue. So an ifq has a low-water mark, buffers that the consumer should leave to
the NIC, and a policy for when they are touched.

What a NIC keeps of the area: its rx ring, posted; 128 in the page pool's cache; and up
to as many as the ring has (16,384 at most) in the pool's ring, where what is given back
waits first. Copies draw only on what is beyond those.

Kernel: ``net/core/page_pool.c:page_pool_init()``, PP_ALLOC_CACHE_SIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyzcrx._common.checked import MOST_BYTES, integer, optional
from pyzcrx._kernel.interface import find
from pyzcrx._kernel.interface import mtu as mtu_of
from pyzcrx._kernel.interface import rx_ring_entries as entries_of
from pyzcrx._kernel.memory import PAGE
from pyzcrx._queue.area import HUGE_PAGE
from pyzcrx.errors import BadArgument

Policy = Literal["copy", "grow", "raise"]
POLICIES = ("copy", "grow", "raise")

HELD_BYTES = 16 << 20
"""What a consumer holds at a time, unless it says."""

_POOL_CACHE = 128
_POOL_RING_MOST = 16384
_USUAL_RING = 1024
_USUAL_MTU = 1500
_MOST = (1 << 31) - 1


@dataclass(frozen=True)
class Pressure:
    """What an ifq does when its consumer holds so much that little of the area is left.

    * ``copy``: what arrives from then on for those requests that hold most is copied out at
      once and its place given back; the Buffer says so (``copied``) and is used as any
      other. Once half of what should be left is gone too, all is copied. A slow consumer
      costs memory, not the queue.
    * ``grow``: areas as large as the first are added, where the kernel can (Linux 7.3);
      elsewhere as ``copy``.
    * ``raise``: the next turn raises :class:`pyzcrx.errors.AreaHeld`, which names the holders.

    Where all of the area lies in sockets, in segments that wait for lost ones, ``copy`` and
    ``grow`` add an area: nothing would arrive before TCP gave the connections up.

    limit_bytes: the most that copies, or all areas together, may take; by default 64 MiB
    or the area's size, whatever is more, of copies, and four times the area. Near the
    limit the request whose buffers take most is not read on until half of those are
    released: TCP slows its peer down, and the others go on. Before that its socket's
    SO_RCVBUF is lowered, and put back afterwards, as what a socket holds lies in the area.
    low_water_bytes: what should be left of the area; by default half of it, or what the
    NIC and its page pool keep (:func:`pyzcrx.area_advice`) if that is more, at most three
    quarters.
    """

    policy: Policy
    """``"copy"``, ``"grow"`` or ``"raise"``."""
    limit_bytes: int | None = None
    """None: the default."""
    low_water_bytes: int | None = None
    """None: the default."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise BadArgument(f"pressure must be one of {', '.join(POLICIES)}, not {self.policy!r}")
        for name in ("limit_bytes", "low_water_bytes"):
            object.__setattr__(self, name, optional(name, getattr(self, name), 1, MOST_BYTES))

    @classmethod
    def _of(cls, wanted: Pressure | Policy | None) -> Pressure | None:
        """As callers may say it."""
        if wanted is None or isinstance(wanted, Pressure):
            return wanted
        return cls(wanted)


@dataclass(frozen=True, slots=True)
class AreaAdvice:
    """How large an area should be. In bytes."""

    size_bytes: int
    """Twice what the NIC keeps and what the consumer holds, in whole huge pages."""
    least_bytes: int
    """What the NIC keeps posted, and its pool's cache: less starves, for ever."""
    low_water_bytes: int
    """What the consumer should leave: the above, and the page pool's ring."""


def area_advice(
    interface: str | int | None = None,
    *,
    rx_ring_entries: int | None = None,
    mtu: int | None = None,
    rx_buf_len: int = 0,
    held_bytes: int = HELD_BYTES,
) -> AreaAdvice:
    """Size an area for one rx queue.

    interface: its name, an alternative name, or its index. It is asked for its ring and
    MTU where those are not given; 1024 entries and 1500 bytes where it does not say.
    rx_ring_entries: of the rx ring. mtu: in bytes.
    rx_buf_len: bytes of a buffer; 0: a page. held_bytes: what the consumer holds at a time.

    Raises NoSuchInterface, BadArgument.
    """
    entries = optional("rx_ring_entries", rx_ring_entries, 0, _MOST)
    frame = optional("mtu", mtu, 0, _MOST)
    buffer = integer("rx_buf_len", rx_buf_len, 0, _MOST) or PAGE
    held_bytes = integer("held_bytes", held_bytes, 0, MOST_BYTES)
    if interface is not None:
        index = find(interface).index
        entries = entries or entries_of(index)
        frame = frame or mtu_of(index)
    entries, frame = entries or _USUAL_RING, frame or _USUAL_MTU
    posted = entries * -(-frame // buffer)
    least = (posted + _POOL_CACHE) * buffer
    low_water = least + min(posted, _POOL_RING_MOST) * buffer
    size = 2 * (low_water + held_bytes)
    return AreaAdvice(-(-size // HUGE_PAGE) * HUGE_PAGE, least, low_water)

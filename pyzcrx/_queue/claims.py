"""Memory that takes no second registration: a ring writes it, or somebody still reads it.

A second ifq on the same memory would put new bytes under live views. So every registration
claims its area's memory, by address and by file: another Area over the same memfd is the
same memory. A claim outlives its ring for as long as Buffers or views of it are out. What
another process registers is not seen here, nor is what :attr:`Area.view` was used for.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from pyzcrx._kernel.memory import Extent
from pyzcrx._lease import Span
from pyzcrx.errors import AreaInUse

_claims: list[Claim] = []
"""In the order in which they were made: of two, the first has the memory."""


_abandoned: list[Abandoned] = []
"""What the kernel may still send, while nothing will say when it is done."""


class Abandoned(Protocol):
    """Views of memory."""

    def lies_in(self, start: int, stop: int) -> bool: ...


def abandon(views: Abandoned) -> None:
    """Never let what *views* show be unmapped, or written by a registration."""
    _abandoned.append(views)


class Closable(Protocol):
    """A ring, as a claim sees it."""

    @property
    def closed(self) -> bool: ...


class Claim:
    """One registration's, on the memory of one area; keeps neither it nor the ring."""

    def __init__(self, ring: Closable, span: Span, extents: Sequence[Extent]) -> None:
        """Use :func:`claimed`."""
        self._ring = weakref.ref(ring)
        self._span = weakref.ref(span)
        self._look: weakref.ref[Span] | None = None
        self._extents = extents

    def look(self) -> memoryview:
        """All of the memory, read-only, for the views of batches: the claim sees those.

        Empty where the CPU cannot read it.
        """
        span = self._span()
        assert span is not None
        if span._unreadable:
            return memoryview(b"")
        look = Span(span, 0, len(span), True)
        self._look = weakref.ref(look)
        return memoryview(look)

    def overlaps(self, other: Claim) -> bool:
        return any(mine.overlaps(its) for mine in self._extents for its in other._extents)

    def holder(self) -> str | None:
        """What has the memory, and what to do about it; None: nothing has it any more."""
        ring, span = self._ring(), self._span()
        if ring is not None and not ring.closed:
            return f"serves another ifq, of {ring!r}; close that ring, or make an area for each"
        if span is not None and any(
            views.lies_in(span._address, span._address + len(span)) for views in _abandoned
        ):
            return "may still be read by the NIC, for a ring that was closed; make another area"
        if span is not None and span._leases:
            return (
                f"has {span._leases} Buffers out whose ring was closed; release them and drop "
                "their views, or make another area"
            )
        if self._look is not None and self._look() is not None:
            return "is viewed: a batch.view() of a closed ring lives; drop it, or make another area"
        return None

    def drop(self) -> None:
        with suppress(ValueError):  # another thread did
            _claims.remove(self)


@contextmanager
def claimed(ring: Closable, span: Span, extents: Sequence[Extent]) -> Iterator[Claim]:
    """The memory, for a registration within the block; given up where that fails.

    Raises AreaInUse.
    """
    mine = Claim(ring, span, extents)
    _claims.append(mine)
    try:
        for other in list(_claims):
            if other is mine:
                break
            if (holder := other.holder()) is None:
                other.drop()
            elif other.overlaps(mine):
                raise AreaInUse(f"the area's memory {holder}")
        yield mine
    except BaseException:
        mine.drop()
        raise

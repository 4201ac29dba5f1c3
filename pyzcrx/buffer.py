"""A lease on received bytes."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from pyzcrx._lease import Lease
from pyzcrx.errors import DoubleRelease, ForkedChild, ViewsAlive


class Buffer(Lease):
    """Bytes of an area, read-only, yours until :meth:`release`.

    Each holds one reference of its own to the memory below it, even where two
    share a page. Supports the buffer protocol: ``memoryview(buf)``,
    ``numpy.frombuffer(buf, "u1")``, ``sock.send(buf)``. Every view, slice and
    array is seen: while one lives, release is refused, so memory never changes
    under a reader. A buffer that is forgotten gives itself back.

    ``copied``: under pressure (:class:`pyzcrx.Pressure`) the bytes are a copy and
    their place in the area is free again; all else is the same.

    ``off`` is the completion's offset with the area token; ``len(buf)`` is in
    bytes. May be released from any thread; the ring's owner returns it to the
    kernel at its next turn.
    """

    __slots__ = ()

    def refused(self, verdict: int) -> None:
        """Why :meth:`release` did not give the bytes back, or a view was refused (3)."""
        if verdict == 3:
            raise ForkedChild("the buffer belongs to the parent process")
        if verdict == 1:
            raise ViewsAlive(
                f"{self.exports} views of the buffer live; drop them (memoryview.release(), del) "
                f"before its release{self.story()}"
            )
        raise DoubleRelease(
            f"the buffer was released before; release each buffer once{self.story()}"
        )

    def story(self) -> str:
        """Which lines had it: known in debug mode only."""
        return ""

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.released:
            self.release()

    def __repr__(self) -> str:
        return f"<Buffer {len(self)} bytes{', released' if self.released else ''}>"

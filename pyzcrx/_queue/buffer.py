"""A lease on received bytes."""

from __future__ import annotations

from pyzcrx._common.leaving import LettingGo
from pyzcrx._lease import Lease
from pyzcrx.errors import BufferInUse, DoubleRelease, ForkedChild


class Buffer(Lease, LettingGo):
    """Bytes of an area, read-only, yours until :meth:`release`.

    Each holds one reference of its own to the memory below it, even where two
    share a page. Supports the buffer protocol: ``memoryview(buf)``,
    ``numpy.frombuffer(buf, "u1")``, ``sock.send(buf)``.

    While a view, slice or array of it lives, release is refused, so memory never changes
    under a reader. Arrays that keep only the address of a :meth:`view`, as
    ``numpy.ndarray(n, "u1", buf.view())`` does, count too.

    :meth:`view`, ``memoryview(buf)`` and what begins with one (``numpy.frombuffer``,
    ``numpy.asarray``, ``bytes``, ``pickle.PickleBuffer``) read the bytes where they lie.
    Other consumers of the Buffer itself (``sock.send(buf)``, ``hashlib``, ``bytearray``,
    ``numpy.ndarray(n, "u1", buf)``) may keep the Buffer and the address, which nobody can
    see, so they get a copy that lives as long as the Buffer. Pass ``buf.view()`` to spare it.

    A view that you end yourself (``memoryview.release()``, ``with``) counts no longer: end
    none whose address something else still has.

    ``with buf:`` releases at the end; bytes that are still viewed go back with the last
    view. A buffer that is forgotten gives itself back.

    ``copied``: under pressure (:class:`pyzcrx.Pressure`) the bytes are a copy and
    their place in the area is free again; all else is the same.

    ``off`` is the completion's offset with the area token; ``len(buf)`` is in
    bytes. May be released from any thread; the ring's owner returns it to the
    kernel at its next turn.
    """

    __slots__ = ()

    def _refused(self, verdict: int) -> None:
        """Why :meth:`release` did not give the bytes back, or a view was refused (3)."""
        if verdict == 3:
            raise ForkedChild("the buffer belongs to the parent process")
        if verdict == 1:
            raise BufferInUse(
                f"{self.exports} views of the buffer live; drop them (memoryview.release(), del) "
                "before its release, or use 'with' on the buffer, which waits for them"
                f"{self._story()}"
            )
        raise DoubleRelease(
            f"the buffer was released before; release each buffer once{self._story()}"
        )

    def _story(self) -> str:
        """Which lines had it: known in debug mode only."""
        return ""

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self))

    def __repr__(self) -> str:
        return f"<Buffer {len(self)} bytes{', released' if self.released else ''}>"

"""The writing end: asyncio's, that takes chunks too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NoReturn

from pyzcrx._receive.chunk import Chunk
from pyzcrx.aio.outbox import Outbox


class StreamWriter(asyncio.StreamWriter):
    """As :class:`asyncio.StreamWriter`, whose transport writes by plain sends.

    Chunks are sent by the ring from where they lie, where that costs less than a copy or
    :attr:`zero_copy` asks for it;
    :meth:`pyzcrx.Ring.send_stats` counts what was copied, and why.
    """

    _outbox: Outbox

    @property
    def zero_copy(self) -> bool | None:
        """How chunks are sent from now on: the argument of :meth:`pyzcrx.Ring.send`. First None."""
        return self._outbox.zero_copy

    @zero_copy.setter
    def zero_copy(self, asked: bool | None) -> None:
        self._outbox.zero_copy = asked

    def write(self, data: Any) -> None:
        """Send bytes, a view, or a Chunk, which it gives back: do not use that afterwards.

        What the socket does not take at once is kept until it does: await :meth:`drain`. A
        Chunk's part of the area is free once the kernel accepted its bytes and, sent without a
        copy, the peer has acknowledged them.
        """
        if self._outbox.takes(data):
            self._outbox.write(data)
        elif isinstance(data, Chunk):
            with data:
                for view in data.views():
                    super().write(view)
        else:
            super().write(data)

    def writelines(self, data: Iterable[Any]) -> None:
        """Each of *data*, in order, as :meth:`write` does."""
        for each in data:
            self.write(each)

    def write_eof(self) -> None:
        """End what we send, behind all that was written."""
        self._outbox.end(super().write_eof)

    def close(self) -> None:
        """Close the connection, once all that was written is sent."""
        self._outbox.close(super().close)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._outbox.closing or super().is_closing()

    async def start_tls(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not on these streams: TLS needs the bytes, decrypted, from the transport."""
        raise NotImplementedError("zero-copy streams have no TLS; use asyncio's own streams")

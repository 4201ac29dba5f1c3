"""The writing end: asyncio's, that takes chunks too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NoReturn

from pyzcrx._receive.chunk import Chunk


class StreamWriter(asyncio.StreamWriter):
    """As :class:`asyncio.StreamWriter`, whose transport writes by plain sends."""

    def write(self, data: Any) -> None:
        """Send bytes, a view, or a Chunk, which it gives back: do not use that afterwards.

        What the socket does not take at once is kept until it does: await :meth:`drain`.
        """
        if isinstance(data, Chunk):
            with data:
                for view in data.views():
                    super().write(view)
        else:
            super().write(data)

    def writelines(self, data: Iterable[Any]) -> None:
        """Each of *data*, in order, as :meth:`write` does."""
        for each in data:
            self.write(each)

    async def start_tls(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not on these streams: TLS needs the bytes, decrypted, from the transport."""
        raise NotImplementedError("zero-copy streams have no TLS; use asyncio's own streams")

"""A pipe whose write end, from any thread or a signal handler, ends the owner's wait."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from pyzcrx._lease import Descriptor
from pyzcrx._ring.poll import Poll, Polling


def _drain(pipe_fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(pipe_fd, 512):
            pass


class Wakeup:
    """Polled by *ring* from now on. Made by its owner."""

    def __init__(self, ring: Polling) -> None:
        self._read, self._write = (
            Descriptor(fd, adopt=True) for fd in os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        )
        self._shown = Descriptor(os.dup(self._write.number), adopt=True)
        Poll(ring, self._read, partial(_drain, self._read.number))

    @property
    def number(self) -> int:
        """A duplicate of the write end, for others: closing it by mistake harms nobody."""
        return self._shown.number

    def wake(self) -> None:
        """From any thread."""
        with suppress(BlockingIOError):
            os.write(self._write.number, b"\0")

    def close(self) -> None:
        for descriptor in (self._read, self._write, self._shown):
            descriptor.close()

"""One ring of the kernel in memory: its requests, its completions, its pool."""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyzcrx._kernel._ffi import lib
from pyzcrx.testing.completions import Completions
from pyzcrx.testing.pool import Pool
from pyzcrx.testing.requests import Cancel, Poll, Request

_MOST_WAIT_MS = 10
"""How long a turn waits for a descriptor that is polled, where nothing else happens."""


@contextmanager
def _without_handlers() -> Iterator[None]:
    """No signal handler runs within, as none does in the kernel: it might raise half-way.

    What struck meanwhile is handled at the end. A signal that another thread takes is not kept
    out: Python tells the main thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # Runs the handlers of what struck earlier, and may raise what they do.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ModelRing:
    """*memory* is where the ring's indices lie; *room* is that of its completion queue."""

    def __init__(self, memory: int, entries: int, room: int) -> None:
        self.memory = memory
        self.entries = entries
        self.pool = Pool()
        self.armed: deque[Request] = deque()
        self.signal = -1
        """The eventfd that is added to when a turn might bring something; -1: none."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._prepared: deque[Request] = deque()
        self.completions = Completions(room)

    def prepare(self, request: Request) -> None:
        """Serve *request* from the next turn on; one that was prepared just now, once."""
        if not (self._prepared and request.same_as(self._prepared[-1])):
            self._prepared.append(request)

    def changed(self) -> None:
        """Something happened, which a turn might bring."""
        if self.signal >= 0 and (self.armed or self._prepared):
            lib.pz_signal_set(self.signal)

    def submitted(self) -> None:
        """What was prepared may be served."""
        if self._prepared:
            self.changed()

    @property
    def pending(self) -> bool:
        """Whether a turn would bring something, although nothing happens."""
        return self.completions.waiting or bool(self._prepared)

    def turn(self, timeout_ns: int, takes: int, columns: Any) -> int:
        with _without_handlers():
            if not self._run(takes) and timeout_ns:
                self._wait(timeout_ns, takes)
            return self.completions.drain(columns)

    def _run(self, takes: int) -> bool:
        """Serve every request once; gives whether there are completions."""
        for request in self._prepared:
            if isinstance(request, Cancel):
                request.go_on(self.completions)
            else:
                self.armed.append(request)
        self._prepared.clear()
        self.pool.take_refill(takes)
        for _ in range(len(self.armed)):
            request = self.armed.popleft()
            if not request.go_on(self.completions):
                self.armed.append(request)
        return self.completions.waiting

    def _wait(self, timeout_ns: int, takes: int) -> None:
        """For a while, for what is polled."""
        poll = select.poll()
        polled = [request for request in self.armed if isinstance(request, Poll)]
        for request in polled:
            poll.register(request.fd, request.events)
        most = timeout_ns // 1_000_000 if timeout_ns > 0 else _MOST_WAIT_MS
        if polled and poll.poll(min(most, _MOST_WAIT_MS)):
            self._run(takes)

    def close(self) -> None:
        os.close(self.fd)
        self.pool.leave()

"""The requests that the kernel in memory serves, each until its last completion.

Kernel: ``io_uring/net.c``, ``io_uring/poll.c`` (7.3).
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque

from pyzcrx._kernel.memory import PAGE
from pyzcrx.testing.completions import Completions
from pyzcrx.testing.pool import Pool
from pyzcrx.testing.sockets import ModelListener, ModelSocket

_SKBS_PER_CALL = 20


class Request:
    """One that is armed."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.cancelled = False

    def same_as(self, other: Request) -> bool:
        """Whether it is *other* again, which counts once, as in the shim."""
        return type(self) is type(other) and self.token == other.token != 0

    def go_on(self, cq: Completions) -> bool:
        """Do what can be done now; gives whether the last completion was posted."""
        last = -errno.ECANCELED if self.cancelled else self.step(cq)
        if last is None:
            return False
        cq.post_last(self.token, last)
        return True

    def step(self, cq: Completions) -> int | None:
        """The result of the last completion; None: there is more to come."""
        raise NotImplementedError


class Refused(Request):
    """One that fails at once."""

    def __init__(self, token: int, number: int) -> None:
        super().__init__(token)
        self._number = number

    def step(self, cq: Completions) -> int:  # noqa: ARG002
        return -self._number


class Receive(Request):
    """RECV_ZC, multishot; *length* 0: to the end of the stream."""

    def __init__(self, token: int, sock: ModelSocket, pool: Pool, length: int) -> None:
        super().__init__(token)
        self._sock = sock
        self._pool = pool
        self._limited = length != 0
        self._left = length

    def step(self, cq: Completions) -> int | None:
        sock = self._sock
        for _ in range(_SKBS_PER_CALL):
            if self._limited and not self._left:
                return 0
            if not sock.segments:
                return -sock.error if sock.error or sock.ended else None
            res = self._copy(cq)
            if res:
                return res
        return None

    def _copy(self, cq: Completions) -> int:
        segment = self._sock.segments[0]
        length = min(len(segment), PAGE)
        if self._limited:
            length = min(length, self._left)
        off = self._pool.top()
        if off < 0:
            return -errno.ENOMEM
        if not cq.post(self.token, length, off):
            return -errno.ENOSPC
        self._pool.put(segment[:length])
        self._left -= length
        self._sock.segments.popleft()
        if length < len(segment):
            self._sock.segments.appendleft(segment[length:])
        return 0


class Accept(Request):
    """Multishot accept."""

    def __init__(self, token: int, listener: ModelListener) -> None:
        super().__init__(token)
        self._listener = listener

    def step(self, cq: Completions) -> int | None:
        backlog = self._listener.backlog
        while backlog:
            fd = os.dup(backlog.popleft().fileno())
            if not cq.post(self.token, fd):
                return fd  # no room: it ends, with a connection
        return -self._listener.error if self._listener.error else None


class Poll(Request):
    """Poll, multishot or not, of any descriptor."""

    def __init__(self, token: int, fd: int, events: int, multishot: bool) -> None:
        super().__init__(token)
        self._multishot = multishot
        self.fd = fd
        self.events = events

    def step(self, cq: Completions) -> int | None:
        poll = select.poll()
        poll.register(self.fd, self.events)
        for _, found in poll.poll(0):
            if found & select.POLLNVAL:
                return -errno.EBADF
            if not self._multishot or not cq.post(self.token, found):
                return found
        return None


class Cancel(Request):
    """Cancels those armed before it: the request of token *target*, or all."""

    def __init__(self, token: int, target: int, anything: bool, armed: deque[Request]) -> None:
        super().__init__(token)
        self._target = target
        self._anything = anything
        self._requests = armed

    def step(self, cq: Completions) -> int:  # noqa: ARG002
        hits = [r for r in self._requests if self._anything or r.token == self._target]
        for request in hits:
            request.cancelled = True
        return len(hits) or -errno.ENOENT

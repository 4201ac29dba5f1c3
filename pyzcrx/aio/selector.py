"""A selector whose descriptors are polled by a ring, in the turn that receives.

asyncio expects level-triggered readiness. A one-shot poll gives it: it is armed at the next
:meth:`RingSelector.select`, completes at once while its descriptor is ready, and goes with the
same system call as everything else. A multishot poll would not: it is edge-triggered, and bytes
that stay unread are never reported again.

A poll in flight holds its file. A descriptor that is closed meanwhile is not closed for its peer,
so :meth:`RingSelector.unregister` cancels the poll and takes a turn at once.

Kernel: ``io_uring/poll.c:io_poll_add()``.
"""

from __future__ import annotations

import errno
import math
import os
import select
import selectors
import stat
from collections.abc import Callable, Mapping
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

from pyzcrx._kernel._ffi import lib
from pyzcrx._receive.delivery import Delivery
from pyzcrx.errors import WrongThread
from pyzcrx.ring import Ring

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_FOR_LONG_NS = (1 << 63) - 1
"""Not for ever (-1): only a wait for ever ends each second, for signals that asyncio has a pipe
for, and gives up requests that wait for memory while other descriptors are polled."""


class _Poll:
    """One poll request, which ends with one completion."""

    __slots__ = ("_done", "events", "fd", "res", "token", "wanted")

    def __init__(self, fd: int, events: int, done: list[_Poll]) -> None:
        self.fd = fd
        self.events = events
        self.token = 0
        self.wanted = True
        """Whether its completion still matters."""
        self.res = 0
        self._done = done

    def _complete(self, res: int, flags: int) -> None:  # noqa: ARG002
        self.res = res
        self._done += (self,)

    def _drop(self, res: int) -> None:
        """Nothing to undo."""

    def _closed_by_ring(self) -> None:
        """Nothing to let go of."""


def _poll_mask(events: int) -> int:
    return (select.POLLIN if events & _READ else 0) | (select.POLLOUT if events & _WRITE else 0)


def _events_of(res: int) -> int:
    """What a poll's result means to a selector: an error or a hang-up is both."""
    if res < 0:
        return _READ | _WRITE
    return (_READ if res & ~select.POLLOUT else 0) | (_WRITE if res & ~select.POLLIN else 0)


class RingSelector(selectors._BaseSelectorImpl):
    """A :mod:`selectors` selector over a ring, which it makes in the thread that selects.

    A ring belongs to one thread, and event loops are often made in another than they run in.
    While the ring has no ifq, a select in another thread makes a new one. *make* makes it.
    """

    if TYPE_CHECKING:
        _fd_to_key: dict[int, selectors.SelectorKey]

    def __init__(self, make: Callable[[], Ring] = Ring) -> None:
        super().__init__()
        self._make = make
        self._ring: Ring | None = None
        self._delivery: Delivery | None = None
        """The ring's, while there is one. Requests whose inbox got something are in its
        ``inboxes.changed``; who notifies one removes it there."""
        self._thread: Thread | None = None
        """Its owner; not by number, which is used again."""
        self._polls: dict[int, _Poll] = {}
        """Those in flight, by descriptor."""
        self._to_arm: dict[int, None] = {}
        self._done: list[_Poll] = []
        # Asks the kernel what epoll_ctl() would say to a descriptor.
        self._epoll = select.epoll()

    # -- the ring ---------------------------------------------------------------

    @property
    def ring(self) -> Ring:
        """The ring of the thread that runs the loop. Made if need be.

        Raises WrongThread where it has an ifq and belongs to another thread.
        """
        ring = self._ring
        if ring is None or not ring._core.owned or ring._core.closed:
            self._renew()
            ring = self._ring
            assert ring is not None
        return ring

    def _renew(self) -> None:
        if self._ring is not None:
            if self._ring.ifqs:
                self._ring._core.check_open()
                raise WrongThread("an event loop that has an ifq runs in one thread only")
            self._close_ring()
        self._ring = self._make()
        self._delivery = self._ring._delivery
        self._delivery.inboxes.changed = []
        self._thread = current_thread()
        self._to_arm.update(dict.fromkeys(self.get_map() or ()))

    def _close_ring(self) -> None:
        ring, self._ring = self._ring, None
        self._delivery = None
        self._polls.clear()
        self._done.clear()
        if ring is not None and self._thread is current_thread():
            ring.close()
        elif ring is not None:
            ring._close_elsewhere()

    @property
    def _turnable(self) -> bool:
        return self._ring is not None and self._thread is current_thread() and not self._ring.closed

    # -- registering --------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As :meth:`selectors.BaseSelector.register`; PermissionError for a regular file."""
        key: selectors.SelectorKey = super().register(fileobj, events, data)
        try:
            self._check_pollable(key.fd)
        except BaseException:
            super().unregister(fileobj)
            raise
        self._to_arm[key.fd] = None
        return key

    def _check_pollable(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
            self._epoll.register(fd, 0)  # EPERM: the kernel has no readiness for it
            self._epoll.unregister(fd)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As :meth:`selectors.BaseSelector.unregister`. Its file is free afterwards."""
        key: selectors.SelectorKey = super().unregister(fileobj)
        self._to_arm.pop(key.fd, None)
        if self._disarm(key.fd):
            self._turn(0)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As :meth:`selectors.BaseSelector.modify`."""
        key = self.get_key(fileobj)
        if not events or events & ~(_READ | _WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        poll = self._polls.get(key.fd)
        if events != key.events:
            if poll is not None and events & ~poll.events:
                self._disarm(key.fd)
            if key.fd not in self._polls:
                self._to_arm[key.fd] = None
        key = key._replace(events=events, data=data)
        self._fd_to_key[key.fd] = key
        return key

    def _disarm(self, fd: int) -> bool:
        """Gives whether the kernel has to be entered for it to take effect."""
        poll = self._polls.pop(fd, None)
        if poll is None:
            return False
        poll.wanted = False
        if not self._turnable:
            if self._ring is not None and not self._ring.ifqs:
                self._close_ring()  # its thread has gone; the next select makes another
            return False
        assert self._ring is not None
        core = self._ring._core
        if core.operation(poll.token) is poll:
            core.cancel(poll.token)
        return True

    # -- selecting ----------------------------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As :meth:`selectors.BaseSelector.select`: one turn of the ring."""
        done, delivery = self._done, self._delivery
        if self._to_arm or delivery is None:
            delivery = self._arm_all()
        if done or delivery.inboxes.changed or timeout == 0:
            wait_ns = 0
        elif timeout is None:
            wait_ns = _FOR_LONG_NS
        else:
            wait_ns = min(max(0, math.ceil(timeout * 1e9)), _FOR_LONG_NS)
        if not delivery.collect_quietly(wait_ns):
            self._arm_all().collect_on(wait_ns)  # or this is another thread than before
        if not done:
            return []
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for poll in done:
            found = self._finish(poll)
            if found is not None:
                ready.append(found)
        done.clear()
        return ready

    def _arm_all(self) -> Delivery:
        """Have the ring of this thread poll all that is registered."""
        ring = self.ring
        for fd in list(self._to_arm):
            self._arm(ring, fd)
        return ring._delivery

    def _arm(self, ring: Ring, fd: int) -> None:
        core = ring._core
        poll = _Poll(fd, self._fd_to_key[fd].events, self._done)
        poll.token = core.new_token()
        result = lib.pz_prep_poll(core.raw, fd, _poll_mask(poll.events), 0, poll.token)
        core.submit(poll, poll.token, result, "poll")
        self._polls[fd] = poll
        self._to_arm.pop(fd, None)

    def _turn(self, wait_ns: int) -> None:
        if self._delivery is not None:
            self._delivery.collect(wait_ns)

    def _finish(self, poll: _Poll) -> tuple[selectors.SelectorKey, int] | None:
        if not poll.wanted or self._polls.get(poll.fd) is not poll:
            return None
        if poll.res != -errno.EBADF:  # else closed before it was unregistered: ignored, as by epoll
            self._to_arm[poll.fd] = None
        del self._polls[poll.fd]
        if poll.fd not in self._to_arm:
            return None
        key = self._fd_to_key[poll.fd]
        events = _events_of(poll.res) & key.events
        return (key, events) if events else None

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As :meth:`selectors.BaseSelector.get_map`."""
        found: Mapping[Any, selectors.SelectorKey] = super().get_map()
        return found

    def close(self) -> None:
        """Close the ring and all that is received on it. The descriptors stay open."""
        super().close()
        self._to_arm.clear()
        self._close_ring()
        self._epoll.close()

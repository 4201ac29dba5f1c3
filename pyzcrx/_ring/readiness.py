"""When the ring wants a turn, as a descriptor that event loops of others can watch.

A turn would bring or change something when

* the kernel has work or completions for us: it adds to an eventfd. It does so again when the
  completion is posted, within the turn that takes it, so this eventfd is read after the turn,
  and what it would have said in between is asked of the ring: completions, or the flag
  IORING_SQ_TASKRUN;
* the turn before brought something that is not all taken: a second eventfd stays readable,
  which is read before each turn;
* a buffer was released: the Account adds to that eventfd too (``csrc/give_back.c``);
* time has passed that something was waiting for (starved requests, pressure): a timerfd.

Users watch an epoll of the three. The ring's own descriptor would not do: with
IORING_SETUP_DEFER_TASKRUN it polls readable only once completions are posted, which happens
only inside a turn (``io_uring/io_uring.c:io_uring_poll()``, 6.18).

Kernel: ``io_uring/eventfd.c:io_eventfd_register()``, IORING_REGISTER_EVENTFD (5.2);
``io_uring/io_uring.c:io_req_local_work_add()``, IORING_SETUP_TASKRUN_FLAG (5.19).
"""

from __future__ import annotations

from typing import Any

from pyzcrx._kernel._ffi import check, lib
from pyzcrx._lease import Descriptor


class Readiness:
    """Of one ring; closed with it. Owner thread only."""

    __slots__ = ("_any", "_kernel", "_raw", "_timed", "_timer", "signal")

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._kernel = Descriptor(check(lib.pz_signal(), "watch"), adopt=True)
        self.signal = Descriptor(check(lib.pz_signal(), "watch"), adopt=True)
        """The eventfd: accounts add to it when a reference comes back."""
        self._timer = Descriptor(check(lib.pz_timer(), "watch"), adopt=True)
        numbers = self._kernel.number, self.signal.number, self._timer.number
        self._any = Descriptor(check(lib.pz_any(*numbers), "watch"), adopt=True)
        self._timed = False
        check(lib.pz_ring_signals(raw, self._kernel.number), "watch")
        self.set()  # what happened before

    def fileno(self) -> int:
        """Polls readable while a turn would bring or change something."""
        return self._any.number

    def set(self) -> None:
        """A turn is wanted now."""
        lib.pz_signal_set(self.signal.number)

    def clear(self) -> None:
        """A turn begins; what is released from here on counts for the next."""
        lib.pz_signal_clear(self.signal.number)

    def turned(self, next_ns: int) -> None:
        """A turn ended; the next is wanted in *next_ns*, or only when something happens (NEVER)."""
        lib.pz_signal_clear(self._kernel.number)
        if next_ns == 0 or lib.pz_ring_pending(self._raw):
            self.set()
        timed = next_ns > 0
        if timed or self._timed:
            self._timed = timed
            lib.pz_timer_set(self._timer.number, next_ns if timed else -1)

    def close(self) -> None:
        self._any.close()
        self._timer.close()
        self._kernel.close()
        self.signal.close()

"""The blocking loop: one ring, its ifqs, and what happens on them, as events or batches."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self, cast

from pyzcrx._common.checked import seconds
from pyzcrx._common.leaving import leave
from pyzcrx._kernel.interface import find
from pyzcrx._lease import Feed, Queue
from pyzcrx._pressure.policy import Policy, Pressure
from pyzcrx._pressure.rx_buf_len import worth_trying
from pyzcrx._queue.area import Area
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.links import Links
from pyzcrx._queue.registration import RqMemory, Wanted
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.debug import report_leaks
from pyzcrx._receive.debug import wanted as debug_wanted
from pyzcrx._receive.events import Accepted, Data, Event
from pyzcrx._receive.request import Request
from pyzcrx._ring import napi
from pyzcrx._ring.columns import COUNTED, FRESH
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.pace import MOST_US
from pyzcrx._send.operations import Accept, Send
from pyzcrx.errors import InvalidRequest, NotSupported, OutOfRange, QueueBound
from pyzcrx.ifq import Ifq

_BOUND_RETRY_S = 0.02


def _nanoseconds(timeout: float | None) -> int:
    return -1 if timeout is None else int(seconds("timeout", timeout) * 1e9)


class _Deadline:
    """A wait of so many ns from now; -1: for ever."""

    __slots__ = ("_at_ns",)

    def __init__(self, wait_ns: int) -> None:
        self._at_ns = time.monotonic_ns() + wait_ns if wait_ns >= 0 else None

    def left_ns(self) -> int:
        return -1 if self._at_ns is None else max(0, self._at_ns - time.monotonic_ns())

    @property
    def passed(self) -> bool:
        return self._at_ns is not None and time.monotonic_ns() >= self._at_ns


class Ring(RingCore):
    """A ring and everything received on it.

    ::

        with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(64 << 20) as area:
            ifq = ring.register_ifq(area, interface="eth0", rx_queue=3)
            request = ifq.receive(sock)
            for event in ring.events():
                match event:
                    case pyzcrx.Data(buffer=buf):
                        consume(buf.view())
                        buf.release()
                    case pyzcrx.End():
                        break
                    case pyzcrx.Failed(error=error):  # what came before is not all of it
                        raise error

    sq_entries, cq_entries: sizes of the two rings, rounded up to powers of two. A
    CQ that is too small costs speed, never data. gather_us: how many microseconds a
    turn may wait for more while much arrives (Linux 6.12; :mod:`pyzcrx._ring.pace`); 0: never.
    debug: poison memory that is given back and name the lines that lease buffers; None: as
    PYZCRX_DEBUG says.

    Belongs to the thread that makes it. Raises NotPermitted (EPERM),
    NotSupported (ENOSYS, EINVAL: before Linux 6.1), NoMemory, BadArgument.
    """

    def __init__(
        self,
        *,
        sq_entries: int = 256,
        cq_entries: int = 4096,
        gather_us: int = MOST_US,
        debug: bool | None = None,
    ) -> None:
        super().__init__(
            sq_entries=sq_entries,
            cq_entries=cq_entries,
            gather_us=gather_us,
            debug=debug_wanted(debug),
        )
        self.ifqs: list[Ifq] = []
        self._unseen: Batch | None = None
        """A batch that was drained and not handed on."""
        self._fresh: list[Event] = []
        self._links: Links | None = None
        self._undelivered = Queue()

    def register_ifq(
        self,
        area: Area,
        *,
        interface: str | int | None = None,
        rx_queue: int | None = None,
        rq_entries: int = 4096,
        rq_memory: RqMemory = "user",
        rx_buf_len: int | None = None,
        pressure: Pressure | Policy | None = None,
        timeout: float = 0,
    ) -> Ifq:
        """Bind *area* to one rx queue of *interface*, or, without one, to none (NODEV).

        With NODEV the kernel copies what any socket receives into the area: the
        whole interface without a NIC, and without its gain.

        interface: its name, an alternative name, or its index.

        rq_entries: size of the refill queue, rounded up to a power of two, at
        most 32768. rq_memory: who supplies its pages. rx_buf_len: bytes of a
        buffer, a power of two from the page up, where the NIC can; 0: a page; None: as
        many as the NIC can, where that pays (:mod:`pyzcrx._pressure.rx_buf_len`), else a page.
        pressure: what to do while little of the area is left (:class:`pyzcrx.Pressure`);
        None: a PressureWarning, once.
        timeout: seconds to try again while the queue is bound; the kernel gives a
        queue back a moment after its last user went.

        Raises the KernelError of each errno (:mod:`pyzcrx.errors`): NotPermitted,
        InvalidRequest, NotSupported, QueueBound, QueueBusy, OutOfRange,
        NoSuchInterface, ProviderIgnored, NoMemory, BadAreaMemory; BadArgument before the
        kernel is asked, and AreaInUse while another ring has the area's memory or Buffers
        or views of it are out. Nothing stays behind after any of them.

        Kernel: ``io_uring/zcrx.c:io_register_zcrx()`` (6.15; NODEV 7.2).
        """
        self.check_usable()
        relief = Pressure.of(pressure)
        found = None if interface is None else find(interface)
        wanted = Wanted(
            found, rx_queue, rq_entries, rq_memory, 0 if rx_buf_len is None else rx_buf_len
        )
        until = time.monotonic() + seconds("timeout", timeout)
        lengths: tuple[int, ...] = (wanted.rx_buf_len,)
        if rx_buf_len is None:
            lengths = worth_trying(wanted.if_idx or None, area)
        for length in lengths:
            try:
                ifq = self._register(area, replace(wanted, rx_buf_len=length), relief, until)
                break
            except (InvalidRequest, NotSupported, OutOfRange):
                if length == lengths[-1]:
                    raise
        self.ifqs.append(ifq)
        self.add_child(ifq)
        self.pace.fit(area.size_bytes // ifq.rx_buf_len)
        ifq.relief.warn_if_small()
        if not ifq.nodev and self._links is None:
            with suppress(OSError):  # a sandbox may forbid rtnetlink: then nothing notices
                self._links = Links(self, self._check_interfaces)
            ifq.check_interface()  # it may have gone before we listened
        return ifq

    def _register(self, area: Area, wanted: Wanted, relief: Pressure | None, until: float) -> Ifq:
        while True:
            try:
                return Ifq(self, len(self.ifqs), area, wanted, relief)
            except QueueBound:
                if time.monotonic() >= until:
                    raise
                time.sleep(_BOUND_RETRY_S)

    def _check_interfaces(self) -> None:
        for ifq in self.ifqs:
            ifq.check_interface()

    def register_napi(
        self, busy_poll_us: int, *, prefer: bool = False, napi_ids: Iterable[int] = ()
    ) -> None:
        """Poll the NIC busily for up to so many microseconds (at most 10,000) in every wait.

        The thread that waits then processes packets itself, on its own CPU. Without
        *napi_ids* the kernel polls those NAPI instances that the ring's sockets are
        of; with them just those. prefer: the NIC's interrupt yields to polling,
        where its NAPI has gro-flush-timeout and defer-hard-irqs. 0 us ends it.

        Raises BadArgument, NotSupported (EINVAL, EOPNOTSUPP).
        Kernel: ``io_uring/napi.c:io_register_napi()`` (6.9; napi_ids 6.13).
        """
        self.check_usable()
        napi.register(self.ring_fd, busy_poll_us, prefer=prefer, napi_ids=tuple(napi_ids))

    def accept(self, listener: socket.socket | int, *, context: object = None) -> Accept:
        """Accept connections from a listening socket, one Accepted event each."""
        self.check_usable()
        return Accept(self, listener, context)

    def send(
        self,
        sock: socket.socket | int,
        buffers: Sequence[Buffer | bytes | bytearray | memoryview],
        *,
        context: object = None,
    ) -> Send:
        """Send up to 1024 buffers in order; a Sent event says that they are yours again.

        One send a socket at a time, or their bytes may mix.
        """
        self.check_usable()
        return Send(self, sock, buffers, context)

    # -- events -------------------------------------------------------------

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they happen, until no request is in flight, or *timeout* s bring none.

        Leaving the loop loses nothing: the next call goes on where it stopped.
        Each Buffer must be released; until then the kernel cannot use it.
        """
        self.check_usable()
        return Feed(self._undelivered, partial(self._find_events, _nanoseconds(timeout)))

    def _find_events(self, wait_ns: int) -> bool:
        """Whether :meth:`events` goes on: there are some now."""
        self.check_usable()
        queue = self._undelivered
        deadline = _Deadline(wait_ns)
        while not queue:
            if not self._busy:
                if self._readiness is not None:
                    self._collect(0)  # or the descriptor would stay readable for nothing
                return bool(queue)
            self._collect(deadline.left_ns())
            if deadline.passed and not queue:
                return False
        return True

    @property
    def _busy(self) -> bool:
        """Whether anything can still happen."""
        return bool(
            self._operations
            or self._posted
            or self._undelivered
            or self.columns.counts[FRESH]
            or self.in_flight
        )

    def _reopen(self) -> None:
        """A batch that nobody saw is taken back, to be handed on as events."""
        if self._unseen is not None:
            events = [*self._unseen.events, *self._posted]
            self.looked_at = self._unseen = None
            self._posted = events
            self.columns.counts[FRESH] = COUNTED

    def _collect(self, wait_ns: int) -> None:
        self._reopen()
        self.turn(wait_ns)
        starts = self.columns.run_starts
        for i, receiver in enumerate(self.receivers):
            request = cast("Request", receiver)
            request.ifq.lease_run(self._fresh, request, starts[i], starts[i + 1])
        for ifq in self.ifqs:
            if ifq.account.count:
                ifq.give_back()  # what was copied, before the user takes his time over the rest
        # From here on nothing is called that a signal handler could raise in.
        self._undelivered += self._fresh
        self._undelivered += self._posted
        self._fresh = []
        self._posted = []
        self.columns.counts[FRESH] = 0

    # -- batches ------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Batch:
        """One turn as columns: the fast path, without an object a packet.

        Ends the batch before it. A batch may be empty: after *timeout* seconds, a
        signal, or a turn that only kept things going.
        """
        batch = self._wait(_nanoseconds(timeout))
        self._unseen = None
        return batch

    def _wait(self, timeout_ns: int) -> Batch:
        self.check_usable()
        if self._unseen is not None:
            return self._unseen
        if self._undelivered:
            # What events() left behind comes first, as the events it was made into.
            self.end_look()
            self.columns.forget()
            self.receivers = []
            batch = Batch(self, list(self._undelivered))
            self.looked_at = self._unseen = batch
            self._undelivered.clear()
        else:
            self.turn(timeout_ns)
            batch = Batch(self, self._posted)
            self.looked_at = self._unseen = batch
            self._posted = []
            self.columns.counts[FRESH] = 0
        return batch

    def batches(self, timeout: float | None = None) -> Iterator[Batch]:
        """:meth:`wait` until no request is in flight; empty batches are left out.

        Each batch ends when the next is asked for.
        """
        self.check_usable()
        return self._batches(_nanoseconds(timeout))

    def _batches(self, wait_ns: int) -> Iterator[Batch]:
        deadline = _Deadline(wait_ns)
        while self._operations or self._busy or self._unseen is not None:
            batch = self._wait(deadline.left_ns() if wait_ns >= 0 else -1)
            self._unseen = None
            if batch.size_bytes or batch.events:
                yield batch
                self.check_usable()
                if self.looked_at is not None:
                    self.end_look()
                if wait_ns >= 0:
                    deadline = _Deadline(wait_ns)
            elif deadline.passed:
                return

    def close(self) -> None:
        """Cancel everything, give every buffer back, close ifqs and ring. Idempotent.

        Connections accepted and not yet told of are closed.
        """
        try:
            if not self.closed:
                self.check_usable()
                self.end_look()
                if self.debug:
                    self._report_leaks()
        finally:  # also when a warning is made an error
            self._end()

    def _end(self) -> None:
        super().close()
        if self._links is not None:
            self._links.close()
        unseen = self._unseen.events if self._unseen is not None else ()
        for event in (*self._undelivered, *self._fresh, *self._posted, *unseen):
            if isinstance(event, Accepted):
                os.close(event.fd)
        self._undelivered.shut()
        self._undelivered.clear()
        self._fresh.clear()
        self._posted.clear()
        self._unseen = None

    def _die_in_child(self) -> None:
        super()._die_in_child()
        self._undelivered.shut()

    def _report_leaks(self) -> None:
        own = {id(e.buffer) for e in (*self._undelivered, *self._fresh) if isinstance(e, Data)}
        for ifq in self.ifqs:
            report_leaks(ifq.account, own)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave(error, self.close)

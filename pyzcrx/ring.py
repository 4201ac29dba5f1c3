"""The blocking loop: one ring, its ifqs, and what happens on them, as events or batches."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pyzcrx._common.checked import seconds
from pyzcrx._common.leaving import Closing
from pyzcrx._ifq.core import IfqCore
from pyzcrx._ifq.registering import PreparedNic, queue_of, register
from pyzcrx._kernel import fork
from pyzcrx._kernel.interface import find
from pyzcrx._pressure.policy import Policy, Pressure
from pyzcrx._queue.area import Area, check_readable
from pyzcrx._queue.links import Links
from pyzcrx._queue.registration import RqMemory, Wanted
from pyzcrx._receive.batch import Batch
from pyzcrx._receive.debug import wanted as debug_wanted
from pyzcrx._receive.delivery import Delivery
from pyzcrx._receive.events import Event
from pyzcrx._ring import napi
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.pace import MOST_US
from pyzcrx._ring.tokens import TOKEN_IFQ_MASK, TOKEN_IFQ_SHIFT
from pyzcrx._send.accept import Accept
from pyzcrx._send.pieces import Piece
from pyzcrx._send.send import Send
from pyzcrx._send.stats import SendStats
from pyzcrx._send.traffic import Traffic
from pyzcrx.errors import BadArgument
from pyzcrx.ifq import Ifq

_MAX_SLOTS = TOKEN_IFQ_MASK >> TOKEN_IFQ_SHIFT


def _nanoseconds(timeout: float | None) -> int:
    return -1 if timeout is None else int(seconds("timeout", timeout) * 1e9)


def _area_bytes(ifqs: list[IfqCore]) -> int:
    return sum(area.size_bytes for ifq in ifqs for area in ifq.areas)


class Ring(Closing):
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
        self._core = core = RingCore(
            sq_entries=sq_entries,
            cq_entries=cq_entries,
            gather_us=gather_us,
            debug=debug_wanted(debug),
        )
        self.ifqs: list[Ifq] = []
        """Those registered, in this order."""
        self._cores: list[IfqCore] = []
        """Theirs."""
        self._delivery = Delivery(core, self._cores)
        self._traffic = Traffic(core, partial(_area_bytes, self._cores))
        self._delivery.traffic = self._traffic
        self._links: Links | None = None
        fork.guard(self, type(self)._die_in_child)

    def register_ifq(
        self,
        area: Area,
        nic: PreparedNic | None = None,
        *,
        interface: str | int | None = None,
        rx_queue: int | None = None,
        rq_entries: int = 4096,
        rq_memory: RqMemory = "user",
        rx_buf_len: int | None = None,
        pressure: Pressure | Policy | None = None,
        timeout: float = 0,
    ) -> Ifq:
        """Bind *area* to one rx queue of a NIC, or, without one, to none (NODEV).

        nic: what :func:`pyzcrx.nic.prepare` gave. Of its queues it is *rx_queue*, or the first
        that this process has not bound. A NIC that was set up otherwise: *interface* and
        *rx_queue*. With NODEV the kernel copies what any socket receives into the area: the
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
        self._core.check_usable()
        if nic is not None:
            interface, rx_queue = queue_of(nic, interface, rx_queue)
        if len(self._cores) > _MAX_SLOTS:
            raise BadArgument(f"a ring has room for {_MAX_SLOTS + 1} ifqs")
        relief = Pressure._of(pressure)
        if relief is not None and relief.policy in ("copy", "grow"):
            check_readable(area._span, f"pressure {relief.policy!r}")
        wanted = Wanted(
            None if interface is None else find(interface),
            rx_queue,
            rq_entries,
            rq_memory,
            0 if rx_buf_len is None else rx_buf_len,
        )
        core = register(
            self._core,
            len(self._cores),
            area,
            wanted,
            relief,
            best_length=rx_buf_len is None,
            timeout=seconds("timeout", timeout),
        )
        ifq = Ifq(core, self._delivery)
        self.ifqs.append(ifq)
        self._cores.append(core)
        self._core.add_child(core)
        self._core.pace.fit(area.size_bytes // core.rx_buf_len)
        core.relief.warn_if_small()
        if not core.nodev and self._links is None:
            with suppress(OSError):  # a sandbox may forbid rtnetlink: then nothing notices
                self._links = Links(self._core, self._check_interfaces)
            core.check_interface()  # it may have gone before we listened
        return ifq

    def _check_interfaces(self) -> None:
        for core in self._cores:
            core.check_interface()

    def register_napi(
        self, busy_poll_us: int, *, prefer: bool = False, napi_ids: Iterable[int] = ()
    ) -> None:
        """Poll the NIC busily for up to *busy_poll_us* (at most 10,000) in every wait.

        The thread that waits then processes packets itself, on its own CPU. Without
        *napi_ids* the kernel polls those NAPI instances that the ring's sockets are
        of; with them just those. prefer: the NIC's interrupt yields to polling,
        where its NAPI has gro-flush-timeout and defer-hard-irqs. 0 us ends it.

        Raises BadArgument, NotSupported (EINVAL, EOPNOTSUPP).
        Kernel: ``io_uring/napi.c:io_register_napi()`` (6.9; napi_ids 6.13).
        """
        self._core.check_usable()
        napi.register(self._core.ring_fd, busy_poll_us, prefer=prefer, napi_ids=tuple(napi_ids))

    def accept(self, listener: socket.socket | int, *, context: object = None) -> Accept:
        """Accept connections from a listening socket, one Accepted event each.

        listener: the socket or its descriptor. context: anything of yours, as ``accept.context``.
        Owner thread only. Raises BadArgument, KernelError (EBADF), WrongThread, ClosedError; what
        fails later comes as a Failed event.
        """
        self._core.check_usable()
        return Accept(self._core, listener, context)

    def send(
        self,
        sock: socket.socket | int,
        data: Piece | Sequence[Piece],
        *,
        zero_copy: bool | None = None,
        context: object = None,
    ) -> Send:
        """Send a Buffer, a Chunk, a view, bytes, or up to 1024 of them; ends with Sent or Failed.

        Buffers and Chunks are taken over: they go back to the kernel by themselves once nothing
        reads them any more. Send one to several sockets within the same turn. Sends on
        one socket go one after the other.

        zero_copy: True leaves the bytes where they lie until the peer has acknowledged them;
        False has the kernel copy them; None does what costs less (:mod:`pyzcrx._send.policy`).
        Copied in any case is what can change meanwhile (a bytearray, a view of a batch), what
        does not leave this machine, and what would leave more than half of the area waiting
        for its peers. :meth:`send_stats` counts each. context: anything of yours, as
        ``send.context``.

        Owner thread only. Raises BadArgument, NotConnected (EBADF: no such descriptor),
        WrongThread, ClosedError. What fails later comes as a Failed event.
        Kernel: ``io_uring/net.c:io_sendmsg_zc()`` (6.1).
        """
        self._core.check_usable()
        return Send(self._core, self._traffic, sock, data, zero_copy, context)

    def send_stats(self) -> SendStats:
        """What was sent so far, and how. From any thread, also after close."""
        return replace(self._traffic.stats, copied=dict(self._traffic.stats.copied))

    # -- events -------------------------------------------------------------

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they happen, until no request is in flight, or *timeout* s bring none.

        Leaving the loop loses nothing: the next call goes on where it stopped.
        Each Buffer must be released; until then the kernel cannot use it.
        """
        self._core.check_usable()
        return self._delivery.events(_nanoseconds(timeout))

    # -- batches ------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Batch:
        """One turn as columns: the fast path, without an object a packet.

        Ends the batch before it. A batch may be empty: after *timeout* seconds, a
        signal, or a turn that only kept things going.
        """
        return self._delivery.wait(_nanoseconds(timeout))

    def batches(self, timeout: float | None = None) -> Iterator[Batch]:
        """:meth:`wait` until no request is in flight, or *timeout* s bring none.

        Empty batches are left out. Each batch ends when the next is asked for.
        """
        self._core.check_usable()
        return self._delivery.batches(_nanoseconds(timeout))

    # -- what outsiders watch -----------------------------------------------

    def fileno(self) -> int:
        """A descriptor that polls readable while a turn would bring or change something.

        For event loops of others: watch it (level-triggered: asyncio's ``add_reader``,
        selectors, epoll) and take a turn, ``events(timeout=0)`` or ``wait(0)``, whenever it
        is readable. It is not the io_uring's own descriptor. Closed with the ring.

        From the first call on, requests are submitted when they are made and not with the
        next turn. Raises WrongThread where that call is not the owner's.
        """
        return self._core.fileno()

    @property
    def wakeup_fd(self) -> int:
        """A descriptor; a byte written to it ends the owner's wait.

        Fit for :func:`signal.set_wakeup_fd`. Made on first use, by the owner.
        """
        return self._core.wakeup_fd

    def wake(self) -> None:
        """End the owner's :meth:`wait`, from any thread, with an empty batch.

        The owner must have asked for wakeup_fd before. :meth:`events` and
        :meth:`batches` take a turn and go on.
        """
        self._core.wake()

    # -- state ----------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was closed, here or by a fork."""
        return self._core.closed

    @property
    def debug(self) -> bool:
        """Whether it is in debug mode."""
        return self._core.debug

    @property
    def in_flight(self) -> int:
        """Requests that are not over: armed, or waiting to be armed again."""
        return self._core.in_flight

    @property
    def ring_fd(self) -> int:
        """The descriptor of the io_uring itself."""
        return self._core.ring_fd

    @property
    def cq_view(self) -> memoryview:
        """The CQEs, read-only, as :mod:`pyzcrx.uapi` describes.

        The kernel writes it while you look. One that was taken before stays readable after close.
        """
        self._core.check_open()
        return self._core.cq.view

    @property
    def cq_head(self) -> int:
        """How many CQEs were consumed, modulo 2**32."""
        self._core.check_open()
        return self._core.cq.head

    @property
    def cq_tail(self) -> int:
        """How many CQEs the kernel posted, modulo 2**32."""
        self._core.check_open()
        return self._core.cq.tail

    def close(self) -> None:
        """Cancel everything, give every buffer back, close ifqs and ring. Idempotent.

        Connections accepted and not yet told of are closed. Bytes sent by zero copy are waited
        for, at most 2 s; then their connections are reset. To give peers more time, take
        turns until each Send is ``done``.
        """
        try:
            if not self._core.closed:
                self._core.check_usable()
                self._delivery.closing()
                self._delivery.end_look()
                if self._core.debug:
                    self._delivery.report_leaks()
        finally:  # also when a warning is made an error
            self._end()

    def _close_elsewhere(self) -> None:
        """As :meth:`close`, in another thread, once the owner uses the ring no more.

        What is in flight is left to the kernel, which ends it a moment later.
        """
        self._delivery.closing()
        self._core.close_elsewhere()
        self._end()

    def _end(self) -> None:
        try:
            self._core.close()
        finally:
            if self._core.closed:  # not where the wrong thread asked for it
                self._traffic.closed_by_ring()
        if self._links is not None:
            self._links.close()
        self._delivery.close()

    def _die_in_child(self) -> None:
        self._delivery.die()
        self._traffic.die()

    def __repr__(self) -> str:
        return repr(self._core)

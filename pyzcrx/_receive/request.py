"""A receive request: the protocol bound to a socket and an ifq."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Any, Protocol, TypeAlias

from pyzcrx._common.checked import MOST_BYTES, optional
from pyzcrx._kernel._ffi import check, ffi, lib
from pyzcrx._kernel.descriptor import Cookie, hold
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._lease import Account, Receiver
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.queue import InterfaceQueue
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.pieces import Piece
from pyzcrx._receive.protocol import ReceiveProtocol, Step
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.outcomes import End, Failed, Limit
from pyzcrx.errors import BadArgument, KernelError, UrgentDataLost, ZcrxError

_RCVBUF_LOCK = 2
"""SOCK_RCVBUF_LOCK: its owner set it, and TCP does not."""
_MOST_RCVBUF = 1 << 30
_PLAIN_BYTES = 1 << 16
"""Of one plain receive: a struct pz_plain has no more."""
_NARROW_BYTES = 128 << 10
"""As SO_RCVBUF counts: a few segments of any size, whatever memory they lie in."""


def checked_limit(limit: int | None) -> int | None:
    """A number of bytes that a request may be limited to."""
    return optional("limit", limit, 1, MOST_BYTES)


class State(Enum):
    """What a request that is not armed waits for (:mod:`pyzcrx._receive.waiting`)."""

    STARVED = "starved"
    POSTPONED = "postponed"
    PAUSED = "paused"


class Attachment(Protocol):
    """One ring's use of an interface queue, as its requests see it."""

    slot: int
    queue: InterfaceQueue
    account: Account
    gone: KernelError | None
    plain_bytes: int
    """Received without the area, as it had no free buffer to copy into."""
    face: Any
    """The :class:`pyzcrx.Ifq` that users hold."""

    @property
    def ring(self) -> RingCore: ...
    @property
    def crowded(self) -> bool: ...
    @property
    def zcrx_id(self) -> int: ...

    def lease(self, off: int, length: int, token: int, /) -> Buffer:
        """The buffer of one completion."""

    def lease_run(
        self, into: list[Any], request: Request, start: int, stop: int, /, *, bare: bool
    ) -> None:
        """Lease one run of the ring's columns: *bare* buffers, or their events."""

    def give_back(self) -> None:
        """Hand what was released to the kernel, as far as there is room."""

    def check_receives(self) -> None:
        """Raise what keeps a request from being armed."""

    def wait(self, request: Request, state: State, /) -> None:
        """*request* is not armed; *state* says until when."""


class Request(Receiver):
    """A multishot RECV_ZC on one connection, armed again as long as it takes.

    Ends with exactly one of End, Limit or Failed. ``context`` is yours.
    Kernel: ``io_uring/net.c:io_recvzc()`` (6.15).
    """

    __slots__ = ("__weakref__",)
    # What C keeps for it (csrc/receiver.c):
    _ifq: Attachment
    _protocol: ReceiveProtocol
    # None at first:
    _cookie: Cookie | None
    _inbox: Chunks | None
    _over: type[object] | None
    _failure: ZcrxError | None
    _state: State | None
    _pause_at: int | None
    _rcvbuf: Any  # struct pz_rcvbuf, as it was, and the bytes received once it is drained
    _unbounded: Any  # struct pz_rcvbuf
    _plain: Any  # struct pz_plain

    @property
    def ifq(self) -> Any:
        """The :class:`pyzcrx.Ifq` that it receives from."""
        return self._ifq.face

    @property
    def received(self) -> int:
        """Bytes delivered so far."""
        return self._protocol.received

    @property
    def over(self) -> bool:
        """Whether its End, Limit or Failed was reported."""
        return self._over is not None

    def resume(self, limit: int | None = None) -> None:
        """After Limit: receive *limit* more bytes, or to the end.

        Raises BadArgument (limit; not ended by Limit), InterfaceGone (ENODEV), WrongThread,
        ClosedError (of ring or socket), NotConnected (EBADF).
        """
        if self._over is not Limit:
            raise BadArgument("only a request that ended with Limit can be resumed")
        self._ifq.check_receives()
        limit = checked_limit(limit)
        if self._cookie is not None:  # else it was never let go of
            held = hold(self.fd, "receive")
            self._cookie.check(held, self.fd)
            self._hold(held)
        self._protocol.extend(limit)
        try:
            self._over = None
            self._stopping = False
            self._arm()
        except BaseException:
            try:
                self._arm()  # interrupted, it would be neither over nor armed
            except BaseException:
                self._over = Limit  # as it was: it may be resumed once more
                raise
            raise

    def _put_off(self) -> None:
        """Begin as after Limit, for a reader: nothing is received until :meth:`resume`."""
        self._over = Limit

    def cancel(self) -> None:
        """End it early: what has arrived is still delivered, then Failed(Cancelled).

        Or End or Limit, where those come first. Nothing happens where it is over
        already. Owner thread only.
        """
        if self._over is None and not self._stopping:
            self._ifq.ring.check_usable()
            self._stopping = True
            self._ifq.ring.cancel(self.token)

    def _pause(self, until_bytes: int) -> bool:
        """Take it from the kernel until no more than *until_bytes* of its are held.

        Gives whether it is there to be taken; it may be on its way already.
        """
        if self._stopping or not self._ifq.ring.operation(self.token):
            return False
        if self._pause_at is None:
            self._pause_at = until_bytes
            self._ifq.ring.cancel(self.token)
        return True

    def _narrow(self) -> None:
        """Let its socket hold little unread, which lies in the area, until :meth:`_widen`."""
        if self._rcvbuf is None and self._over is None:
            rcvbuf = ffi.new("struct pz_rcvbuf *")
            if not lib.pz_rcvbuf_get(self._held.number, rcvbuf):
                self._rcvbuf = rcvbuf, self._protocol.received + rcvbuf.bytes
                lib.pz_rcvbuf_narrow(self._held.number, min(_NARROW_BYTES, rcvbuf.bytes))

    @property
    def _drained(self) -> bool:
        """Whether all was read that its peer was allowed to send before :meth:`_narrow`."""
        return self._rcvbuf is None or self._protocol.received >= self._rcvbuf[1]

    def _widen(self) -> None:
        """Undo :meth:`_narrow`."""
        if self._rcvbuf is not None:
            lib.pz_rcvbuf_restore(self._held.number, self._rcvbuf[0])
            self._rcvbuf = None

    def _bound(self, most_bytes: int) -> None:
        """Let its socket hold no more than *most_bytes* unread, until :meth:`_let_go`.

        Of several calls, the last counts.
        """
        if self._rcvbuf is not None:
            self._widen()  # or what it was narrowed to would be taken for what it was
        rcvbuf = ffi.new("struct pz_rcvbuf *")
        if lib.pz_rcvbuf_get(self._held.number, rcvbuf):
            return
        if not rcvbuf.locks & _RCVBUF_LOCK or rcvbuf.bytes > most_bytes:
            if self._unbounded is None:
                self._unbounded = rcvbuf
            lib.pz_rcvbuf_narrow(self._held.number, min(most_bytes, _MOST_RCVBUF))

    def _take_plain(self, inbox: Chunks) -> int:
        """Receive what lies at the front of its socket in the kernel's own memory.

        None of the area is taken. While it is not armed, and once all that it brought is in the
        inbox. Gives how many bytes.
        """
        protocol, before = self._protocol, self._protocol.received
        most_bytes = before + inbox.at_once_bytes
        if protocol.limit is not None:
            most_bytes = min(most_bytes, protocol.limit)
        if self._plain is None:
            self._plain = ffi.new("struct pz_plain *")
        while protocol.received < most_bytes:
            left = min(_PLAIN_BYTES, most_bytes - protocol.received)
            if lib.pz_recv_plain(self._held.number, self._plain, left) <= 0:
                break  # the end, and errors, are the next completion's to report
            self._hand_plain()
        self._plain = None
        return protocol.received - before

    def _hand_plain(self) -> None:
        """What was received plainly goes to the inbox, also what an interruption left."""
        plain, inbox = self._plain, self._inbox
        if plain is None or not plain.bytes or inbox is None:
            return
        inbox.spill()
        pieces: list[Piece] = [memoryview(ffi.buffer(plain.data, plain.bytes)[:])]
        protocol, ifq, n = self._protocol, self._ifq, plain.bytes
        # No call from here on.
        inbox._pieces += pieces
        inbox._nbytes += n
        inbox.spilled_bytes += n
        inbox._separator = b""
        protocol.received += n
        protocol.fruitless = 0
        ifq.plain_bytes += n
        plain.bytes = 0

    def _arm(self) -> None:
        """Hand it to the kernel; one that reached its limit without it ends."""
        ifq, protocol = self._ifq, self._protocol
        ring = ifq.ring
        self._pause_at = None
        if self._plain is not None:
            self._hand_plain()
        if protocol.limit is not None and protocol.reached:
            ring.post(self._end(Step.LIMIT, 0))
            return
        check(ring.arm(self, ifq.zcrx_id), "receive")
        self._state = None

    def _drop(self, res: int) -> None:
        """Nothing to undo: the kernel takes its buffers back with the ring."""

    def _closed_by_ring(self) -> None:
        """It receives no more."""
        self._let_go()

    def _complete(self, res: int, flags: int) -> Ended | None:  # noqa: ARG002
        """The final completion of one arm."""
        if not res and self._at_end(self._ifq.ring):  # as most do
            self._over = End
            self._let_go()
            return End(self)
        if res == -errno.ECANCELED and self._pause_at is not None and not self._stopping:
            self._ifq.wait(self, State.PAUSED)
            return None
        step = self._protocol.finish(res)
        if self._stopping and step in (Step.FLUSH_OVERFLOW, Step.FLUSH_REFILL, Step.ARM):
            return self._give_up(errno.ECANCELED)
        if step is Step.FLUSH_OVERFLOW:
            self._ifq.wait(self, State.POSTPONED)
        elif step is Step.FLUSH_REFILL:
            self._ifq.wait(self, State.STARVED)
        elif step is Step.ARM:
            self._arm()
        else:
            return self._end(step, res)
        return None

    def _end(self, step: Step, res: int) -> Ended:
        if self._over is None:  # else told again, after an interruption
            if step is Step.LIMIT:
                self._over = Limit
            else:
                self._failure = self._failure_of(step, res)
                self._over = End if self._failure is None else Failed
        if self._over is not Limit:
            self._let_go()
        elif self._inbox is None or self._inbox.abandoned or self._stopping:
            self._let_go_for_now()
        else:  # its reader resumes it, or leaves
            self._state = None
        if self._failure is not None:
            return Failed(self, self._failure)
        return Limit(self) if self._over is Limit else End(self)

    def _failure_of(self, step: Step, res: int) -> ZcrxError | None:
        if step is Step.FAIL:
            return self._error(res)
        unread = lib.pz_unread(self._held.number)
        if unread < 0:
            return kernel_error(unread, "receive", f"SIOCINQ of fd {self.fd}")
        return None if self._protocol.confirm(unread) else UrgentDataLost(unread)

    def _give_up(self, number: int) -> Failed[Request]:
        """It will not be armed again; *number* is the errno to say why."""
        failure = self._failure = self._failure or self._error(-number)
        self._over = Failed
        self._let_go()
        return Failed(self, failure)

    def _let_go(self) -> None:
        """The socket is the user's alone again."""
        if self._plain is not None:
            self._hand_plain()
        self._state = None
        if self._rcvbuf is not None:
            self._widen()
        if self._unbounded is not None:
            lib.pz_rcvbuf_restore(self._held.number, self._unbounded)
            self._unbounded = None
        self._held.close()

    def _let_go_for_now(self) -> None:
        """The same at a limit: it may be resumed, or never be."""
        self._cookie = self._cookie or Cookie(self._held.number)
        self._let_go()

    def _leave(self) -> None:
        """Its reader reads no more."""
        if self._over is Limit:
            self._let_go_for_now()

    def _error(self, res: int) -> ZcrxError:
        if self._stopping:
            return self._ifq.gone or kernel_error(errno.ECANCELED, "receive", f"fd {self.fd}")
        return kernel_error(res, "receive", f"fd {self.fd}")

    def __repr__(self) -> str:
        if self._over:
            state = self._over.__name__
        elif self._held.number < 0:
            state = "over"  # the ring was closed
        else:
            state = self._state.value if self._state else "in flight"
        return f"<Request fd {self.fd}, {self.received} bytes, {state}>"


Ended: TypeAlias = End[Request] | Limit[Request] | Failed[Request]

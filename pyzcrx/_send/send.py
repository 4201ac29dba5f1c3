"""Bytes on their way out: from the area without a copy, or by one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pyzcrx._common.checked import number_of
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.descriptor import hold
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._lease import Iovec
from pyzcrx._ring.core import RingCore
from pyzcrx._ring.outcomes import Failed, Sent
from pyzcrx._send.attempt import Attempt, Kind
from pyzcrx._send.pieces import MAX_SEND_BUFFERS, Piece, as_pieces
from pyzcrx._send.policy import MOST_IOVECS, why_copied
from pyzcrx._send.stats import Copied
from pyzcrx._send.traffic import Traffic

_AGAIN = {errno.EAGAIN, errno.EINTR}
_REFUSALS = {errno.ENOMEM, errno.EOPNOTSUPP}


class Send:
    """Bytes of buffers, in order, to one socket; ends with Sent or Failed.

    Its Buffers go back to the kernel by themselves: when all bytes were accepted, where
    they are copied; else once the peer has acknowledged them as well, or the connection is
    over (:attr:`done`). Until then it holds a descriptor of its own for the socket, which
    may be blocking or not: closing yours sends no FIN before that, shutdown() does.

    Kernel: ``io_uring/net.c:io_sendmsg_zc()`` (6.1), ``io_sendmsg()``, with MSG_WAITALL.
    """

    # A sendmsg may take less than all: no more than 2 GiB at once, and on a socket that does
    # not block only what there is room for. The rest goes with the next one, once a poll says
    # that there is room.
    #
    # completed() and notified() are told again from the start if a signal handler raises in
    # them. So what they call can be called twice, the request that comes next is made once
    # (_next), and plain stores, in which no handler runs, come last.

    __slots__ = (
        "_current",
        "_held",
        "_line",
        "_next",
        "_over",
        "_pieces",
        "_ring",
        "_taken",
        "_traffic",
        "_unnotified",
        "_why",
        "buffers",
        "context",
        "fd",
        "size_bytes",
    )

    def __init__(
        self,
        ring: RingCore,
        traffic: Traffic,
        sock: socket.socket | int,
        data: Piece | Sequence[Piece],
        zero_copy: bool | None,
        context: object,
    ) -> None:
        """Use :meth:`pyzcrx.Ring.send`."""
        self._ring = ring
        self._traffic = traffic
        self.fd = number_of(sock)
        """The number of the socket as the user gave it: for messages."""
        self.buffers = as_pieces(data)
        """What it sends."""
        self.context = context
        """Yours."""
        self._pieces = Iovec(self.buffers)
        self.size_bytes = self._pieces.size_bytes
        """Bytes of all of it."""
        self._taken = 0
        """Bytes that the kernel accepted before the current attempt."""
        self._current: Attempt | None = None
        self._next: Attempt | None = None
        self._unnotified: dict[int, int] = {}
        """Bytes by token: what the NIC may read."""
        self._over = False
        """Whether its event was made."""
        try:
            self._held = hold(self.fd, "send")
            self._why = why_copied(zero_copy, self._pieces, self._held.number)
            self._line = traffic.enter(self, id(self), self._held)
        except BaseException:
            self._forget_next()
            self._pieces.end()
            raise

    @property
    def done(self) -> bool:
        """Whether nothing reads the bytes any more."""
        return self._over and not self._unnotified

    def abort(self) -> None:
        """Reset the connection, so that whatever is left of the send ends with the next turns.

        Nothing happens where it is done. Raises WrongThread, ClosedError.
        """
        self._ring.check_usable()
        if not self.done:
            lib.pz_disconnect(self._held.number)

    # -- requests -------------------------------------------------------------

    def _begin(self) -> None:
        """It is the first of its socket's: submit."""
        self._submit(self._kind(0), 0)
        self._current, self._next = self._next, None

    def _kind(self, begin: int) -> Kind:
        if self._why is not None:
            return Kind.COPY
        size_bytes = self._pieces.reach(begin, MOST_IOVECS)
        return Kind.ZERO_COPY if self._traffic.has_room(size_bytes) else Kind.COPY

    def _submit(self, kind: Kind, begin: int) -> None:
        """Submit what comes next, which becomes the current attempt with the caller's stores."""
        if self._next is None:
            most = MAX_SEND_BUFFERS if self._why else MOST_IOVECS
            attempt = Attempt(self._ring, self, kind, self._pieces, begin, most)
            # No call from here on.
            self._next = attempt
            if kind is Kind.ZERO_COPY:
                stats = self._traffic.stats
                self._traffic.flying[attempt.token] = (self._pieces, self._held)
                self._unnotified[attempt.token] = attempt.size_bytes
                stats.unnotified_bytes += attempt.size_bytes
                if stats.unnotified_max_bytes < stats.unnotified_bytes:
                    stats.unnotified_max_bytes = stats.unnotified_bytes
        assert self._next is not None
        self._next.submit(self._held)

    def _forget_next(self) -> None:
        """It was not submitted."""
        if self._next is not None:
            self._settled(self._next)
            self._next = None

    # -- completions ----------------------------------------------------------

    def _completed(
        self, attempt: Attempt, res: int, more: bool
    ) -> Sent[Send] | Failed[Send] | None:
        """The kernel accepted *res* bytes, or there is room; *more*: a notification follows."""
        zero_copy = attempt.kind is Kind.ZERO_COPY
        accepted = max(res, 0) if attempt.kind is not Kind.ROOM else 0
        taken = self._taken + accepted
        event: Sent[Send] | Failed[Send] | None = None
        follower: Send | None = None
        if zero_copy and -res in _REFUSALS:
            self._why = Copied.REFUSED
            self._submit(Kind.COPY, taken)
        elif -res in _AGAIN:
            self._submit(Kind.ROOM, taken)
        elif res >= 0 and taken < self.size_bytes and (res or attempt.kind is Kind.ROOM):
            self._submit(self._kind(taken), taken)
        else:
            if res >= 0 and taken == self.size_bytes:
                event = Sent(self, taken)
            else:
                event = Failed(self, kernel_error(res or -errno.EPIPE, "send", f"fd {self.fd}"))
            follower = self._begin_follower()
            if not self._unnotified or (zero_copy and not more and len(self._unnotified) == 1):
                self._let_go()
        why = "" if zero_copy else (self._why or Copied.LIMIT).value
        # No call from here on.
        traffic = self._traffic
        stats = traffic.stats
        if zero_copy and not more:
            stats.unnotified_bytes -= self._unnotified[attempt.token]
            del self._unnotified[attempt.token], traffic.flying[attempt.token]
        stats.accepted_bytes += accepted
        if zero_copy:
            stats.bytes_zero_copy += accepted
        elif accepted:
            stats.bytes_copied += accepted
            if why not in stats.copied:
                stats.copied[why] = 0
            stats.copied[why] += accepted
        self._taken = taken
        self._current, self._next = self._next, None
        if event is None:
            return None
        self._over = True
        if taken == self.size_bytes:
            stats.sends += 1
        del traffic.lines[self._line][0]
        if follower is None:
            del traffic.lines[self._line]
        else:
            follower._current, follower._next = follower._next, None
        return event

    def _begin_follower(self) -> Send | None:
        """Submit what waits for the same socket. Gives it."""
        line = self._traffic.lines[self._line]
        if len(line) == 1:
            return None
        follower = line[1]
        assert isinstance(follower, Send)
        follower._submit(follower._kind(0), 0)
        return follower

    def _notified(self, attempt: Attempt, copied: bool) -> None:
        """Nothing reads the attempt's bytes any more; *copied*: they were, after all."""
        if self._over and len(self._unnotified) == 1:
            self._let_go()
        # No call from here on.
        traffic = self._traffic
        size_bytes = self._unnotified[attempt.token]
        del self._unnotified[attempt.token], traffic.flying[attempt.token]
        traffic.stats.unnotified_bytes -= size_bytes
        if copied:
            traffic.stats.bytes_reported_copied += size_bytes

    def _settled(self, attempt: Attempt) -> None:
        """As :meth:`_notified`, while the ring closes."""
        size_bytes = self._unnotified.pop(attempt.token, 0)
        self._traffic.flying.pop(attempt.token, None)
        self._traffic.stats.unnotified_bytes -= size_bytes

    # -- the end --------------------------------------------------------------

    def _let_go(self) -> None:
        """The buffers go back, the socket is the user's alone again. Idempotent."""
        self._pieces.let_go()
        self._held.close()
        self._traffic.sends.pop(id(self), None)

    def _closed_by_ring(self) -> None:
        """The ring has gone. What was not notified stays as it is, for ever."""
        if self._unnotified:
            self._held.close()
        else:
            self._let_go()
        self._over = True

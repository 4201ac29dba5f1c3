"""One request of a send, from its submission to the last completion."""

from __future__ import annotations

import select
from enum import Enum, auto
from typing import Protocol

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._lease import Descriptor, Iovec
from pyzcrx._ring.core import RingCore
from pyzcrx._send.pieces import Piece
from pyzcrx.uapi import CqeFlag

_NOTIF, _MORE = int(CqeFlag.NOTIF), int(CqeFlag.MORE)


class Kind(Enum):
    """What the kernel is asked to do."""

    ZERO_COPY = auto()
    """Send bytes from where they lie. The first completion says how many were accepted; a second
    one (F_NOTIF) follows if and only if that has F_MORE, once nothing reads them any more."""
    COPY = auto()
    """Copy bytes into the socket."""
    ROOM = auto()
    """Poll until a socket that does not block takes more."""


class Owner(Protocol):
    """A send, as its requests see it."""

    @property
    def buffers(self) -> tuple[Piece, ...]: ...

    def _completed(self, attempt: Attempt, res: int, more: bool, /) -> object: ...
    def _notified(self, attempt: Attempt, copied: bool, /) -> None: ...
    def _settled(self, attempt: Attempt, /) -> None: ...


class Attempt:
    """A request of *kind*: up to *most* stretches of *pieces*, behind the first *begin* bytes."""

    __slots__ = ("_iov", "_msg", "_n", "_owner", "_ring", "kind", "size_bytes", "token")

    def __init__(
        self, ring: RingCore, owner: Owner, kind: Kind, pieces: Iovec, begin: int, most: int
    ) -> None:
        self._ring = ring
        self._owner = owner
        self.kind = kind
        self.token = ring.new_token()
        self._msg = ffi.new("struct pz_msg *")
        address, self._n, self.size_bytes = pieces.cut(begin, most)
        self._iov = ffi.cast("struct pz_iov *", address)

    @property
    def buffers(self) -> tuple[Piece, ...]:
        """Those that the send holds."""
        return self._owner.buffers

    def submit(self, held: Descriptor) -> None:
        """Hand it to the kernel. Called again before the kernel is entered, it counts once."""
        raw, fd = self._ring.raw, held.number
        if self.kind is Kind.ROOM:
            result = lib.pz_prep_poll(raw, fd, select.POLLOUT, 0, self.token)
        elif self.kind is Kind.COPY:
            result = lib.pz_prep_send(raw, fd, self._msg, self._iov, self._n, self.token)
        else:
            result = lib.pz_prep_send_zc(raw, fd, self._msg, self._iov, self._n, self.token)
        self._ring.submit(self, self.token, result, "send")

    # -- as an operation of the ring ------------------------------------------

    def _complete(self, res: int, flags: int) -> object:
        if flags & _NOTIF:
            self._owner._notified(self, res < 0)  # IORING_NOTIF_USAGE_ZC_COPIED: the sign
            return None
        return self._owner._completed(self, res, bool(flags & _MORE))

    def _drop(self, res: int) -> None:
        """Nothing to undo."""

    def _closed_by_ring(self) -> None:
        """The ring closes: tell the owner if the last completion came before that."""
        if self._ring.operation(self.token) is not self:
            self._owner._settled(self)

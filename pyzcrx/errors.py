"""Every error pyzcrx raises. Which errno becomes which is in :mod:`pyzcrx._kernel.meanings`.

::

    ZcrxError
    +-- UsageError                 the call was wrong; nothing reached the kernel
    |   +-- ClosedError (ValueError)
    |   +-- WrongThread (RuntimeError)
    |   +-- ForkedChild (RuntimeError)
    |   +-- BadArgument (ValueError)
    |   |   +-- AreaInUse
    |   +-- DoubleRelease (RuntimeError)
    |   +-- BufferInUse (BufferError)
    +-- KernelError (OSError)      errno, operation, cause and hint
    |   +-- NotPermitted (PermissionError)    EPERM
    |   +-- NotSupported                      EOPNOTSUPP, ENOSYS, EINVAL of old kernels
    |   +-- InvalidRequest                    EINVAL
    |   +-- QueueBound                        EEXIST
    |   +-- QueueBusy                         EBUSY
    |   +-- OutOfRange                        ERANGE
    |   +-- NoSuchInterface                   ENODEV
    |   +-- ProviderIgnored                   ENODATA
    |   +-- NoMemory                          ENOMEM
    |   +-- BadAreaMemory                     EFAULT
    |   +-- RuleTableFull                     ENOSPC
    |   +-- ReceiveError           how one request failed; comes in a Failed event
    |       +-- WrongQueue                    EFAULT
    |       +-- NotTcp                        EPROTONOSUPPORT
    |       +-- NotConnected                  ENOTCONN
    |       +-- PeerReset (ConnectionResetError)  ECONNRESET, EPIPE
    |       +-- AreaExhausted                 ENOMEM
    |       +-- Cancelled                     ECANCELED
    |       +-- InterfaceGone                 ENODEV
    +-- NicError                   a NIC that is not, or not to be, set up (pyzcrx.nic)
    |   +-- NicUnsupported                it cannot do what zcrx needs
    |   +-- NicBusy                       somebody else has what zcrx needs
    |   +-- RuleExists                    a rule catches the flow already
    |   +-- RuleTooBroad                  the rule would take other programs' data
    |   +-- SetupFailed                   a setting did not hold
    |   +-- RestoreFailed                 something could not be put back
    |   +-- JournalError                  /run/pyzcrx is not safe, or a journal damaged
    +-- IncompleteRead (EOFError)  the stream ended before what was asked for
    +-- UrgentDataLost             a stream that ended behind an urgent byte
    +-- CorruptRing                shared memory holds what the kernel never writes
    +-- AccountingError            a reference is in no place, or in two
    +-- AreaHeld                   pressure="raise": more is held than the area can spare

"""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Sequence
from typing import Any

# Two errnos share a number; the kernel's sources say EOPNOTSUPP and EAGAIN.
_NAMES = dict(_errno.errorcode) | {_errno.EOPNOTSUPP: "EOPNOTSUPP", _errno.EAGAIN: "EAGAIN"}


def errno_name(number: int) -> str:
    """The name of errno *number* as the kernel's sources have it: ``EINVAL`` for 22."""
    return _NAMES.get(number, str(number))


class ZcrxError(Exception):
    """Base of every error of this package."""


class UsageError(ZcrxError):
    """The call was wrong; the kernel was not asked and nothing changed."""


class ClosedError(UsageError, ValueError):
    """The object was closed."""


class WrongThread(UsageError, RuntimeError):
    """A ring belongs to the thread that made it (IORING_SETUP_SINGLE_ISSUER)."""


class ForkedChild(UsageError, RuntimeError):
    """The object belongs to the parent of this forked process."""


class BadArgument(UsageError, ValueError):
    """An argument has no meaning here: a size, an alignment, a name."""


class AreaInUse(BadArgument):
    """The area's memory is registered already, or Buffers or views of it are still out."""


class DoubleRelease(UsageError, RuntimeError):
    """The buffer was given back before.

    In the refill queue two equal entries would fail together and leak both
    references (``io_uring/zcrx.c:io_zcrx_ring_refill()``), so this is caught
    before it gets there.
    """


class BufferInUse(UsageError, BufferError):
    """A view, slice or array of the buffer still lives."""


class UnreadableMemory(UsageError, BufferError):
    """The CPU cannot read the bytes: they lie in another device's memory.

    Whatever needs them raises it (:meth:`pyzcrx.Area.from_dmabuf`): views, ``bytes()``, numpy,
    streams, recording, sends, the relay. Offsets and lengths, release and the batch's columns
    work as ever.
    """


class KernelError(ZcrxError, OSError):
    """A system call or request failed.

    Attributes: ``errno``; ``operation``, what was tried; ``cause`` and ``hint``,
    what it most likely means and what to do about it; ``extack``, the kernel's own
    words where netlink brought some.
    """

    def __init__(
        self, errno: int, operation: str, cause: str = "", hint: str = "", extack: str = ""
    ) -> None:
        name = errno_name(errno)
        text = f"{operation}: {name}: {cause or extack or os.strerror(errno)}"
        if cause and extack:
            text += f' (the kernel says: "{extack}")'
        super().__init__(errno, f"{text}; {hint}" if hint else text)
        self.operation = operation
        self.cause = cause
        self.hint = hint
        self.extack = extack

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.operation, self.cause, self.hint, self.extack)


class NotPermitted(KernelError, PermissionError):
    """EPERM: CAP_NET_ADMIN is missing, or io_uring is switched off."""


class NotSupported(KernelError):
    """This kernel, driver or NIC cannot do it."""


class InvalidRequest(KernelError):
    """EINVAL: the kernel refused the arguments or the state of the NIC."""


class QueueBound(KernelError):
    """EEXIST: the rx queue has a memory provider or the device an XDP program."""


class QueueBusy(KernelError):
    """EBUSY: AF_XDP holds the queue, or it is leased."""


class OutOfRange(KernelError):
    """ERANGE: no such queue, or the area is not contiguous enough."""


class NoSuchInterface(KernelError):
    """ENODEV: no such interface in this network namespace."""


class ProviderIgnored(KernelError):
    """ENODATA: the driver did not use the memory it was given."""


class NoMemory(KernelError):
    """ENOMEM: RLIMIT_MEMLOCK, or no memory."""


class BadAreaMemory(KernelError):
    """EFAULT: the area's memory is read-only or not mapped."""


class RuleTableFull(KernelError):
    """ENOSPC: the NIC has no room for another steering rule."""


class ReceiveError(KernelError):
    """A request failed; found in ``Failed.error``, never raised by reading it."""


class WrongQueue(ReceiveError):
    """EFAULT: data of this connection arrived in another ifq."""


class NotTcp(ReceiveError):
    """EPROTONOSUPPORT: not a plain TCP socket."""


class NotConnected(ReceiveError):
    """ENOTCONN: the socket is not connected, or it listens."""


class PeerReset(ReceiveError, ConnectionResetError):
    """ECONNRESET, or EPIPE of a send: the connection is gone."""


class AreaExhausted(ReceiveError):
    """ENOMEM: no free buffer, and none that could come back."""


class Cancelled(ReceiveError):
    """ECANCELED: the request was cancelled."""


class InterfaceGone(ReceiveError):
    """ENODEV: the NIC was taken away (unbind, unplug, driver unloaded) while bound."""


class NicError(ZcrxError):
    """Attributes: ``cause`` and ``hint``, what is wrong and what to do about it."""

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(f"{cause}; {hint}" if hint else cause)
        self.cause = cause
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.cause, self.hint)


class NicUnsupported(NicError):
    """The NIC, its driver or its state lacks something zcrx needs."""


class NicBusy(NicError):
    """XDP, AF_XDP, another zcrx program or a lease has what was asked for."""


class RuleExists(NicError):
    """The NIC has a rule for this flow already."""


class RuleTooBroad(NicError):
    """The rule would take data from sockets of other programs."""


class SetupFailed(NicError):
    """A setting was taken and did not hold; everything was put back."""


class RestoreFailed(NicError):
    """Something could not be put back; its journal stays for another try."""


class JournalError(NicError):
    """The folder of journals is not safe to use, or a journal is damaged."""


class UrgentDataLost(ZcrxError):
    """The stream ended with bytes unread behind TCP urgent data (MSG_OOB).

    zcrx stops at the urgent byte and then reports a clean end
    (``net/ipv4/tcp.c:__tcp_read_sock()``, Linux 7.3); it was not one.
    """

    def __init__(self, unread_bytes: int) -> None:
        super().__init__(
            f"end of stream with {unread_bytes} bytes unread: the peer sent urgent data "
            "(MSG_OOB), which zcrx cannot pass; have the peer send without MSG_OOB"
        )
        self.unread_bytes = unread_bytes


class IncompleteRead(ZcrxError, EOFError):
    """The stream ended before what was asked for had come.

    Attributes: ``partial``, the bytes that came; ``expected``, how many were wanted, None
    where a separator was.
    """

    def __init__(self, partial: bytes, expected: int | None) -> None:
        wanted = "the separator" if expected is None else f"the {expected} bytes wanted"
        super().__init__(
            f"the stream ended after {len(partial)} bytes, before {wanted}; see 'partial'"
        )
        self.partial = partial
        self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.partial, self.expected)


class CorruptRing(ZcrxError):
    """Shared ring memory holds a value that the kernel never writes."""


class AccountingError(ZcrxError):
    """A reference is in no place, or in two: a bug of pyzcrx, or a ring written by others."""


class AreaHeld(ZcrxError):
    """``pressure="raise"``: the consumer holds more of the area than it can spare.

    ``holders``: the buffers held longest (:class:`pyzcrx.types.Holder`). ``by_request``: what
    each request's buffers amount to, those with most bytes first
    (:class:`pyzcrx.types.Held`). Release some and go on: nothing was lost, and the next
    turn checks again. After it the next turn goes on if sends are in flight, since only
    a turn ends these and gives their buffers back.
    """

    def __init__(
        self,
        text: str,
        holders: Sequence[object] = (),
        by_request: Sequence[Any] = (),
    ) -> None:
        super().__init__(text)
        self.holders = holders
        self.by_request = by_request


class PressureWarning(UserWarning):
    """The area is, or will be, too small for what is held; starvation is near."""


class LeakWarning(ResourceWarning):
    """Debug mode: a buffer was forgotten, or was still out when its ring closed."""


class FallbackWarning(UserWarning):
    """Something slower was used than was asked for; the text says what and why."""

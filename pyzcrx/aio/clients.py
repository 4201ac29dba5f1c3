"""Connections that a program makes, steered to the queue of an ifq.

A rule names both ends of its connection, so that it takes data from no other one. It is made
before the socket is connected: the socket gets its address and port first. A socket that others
connected gets its rule afterwards, and the kernel copies what arrived until then. The rule goes
with its connection, at the latest when the NIC is put back.

Where a connection cannot be steered, it is received as on any loop, and a PlainReceiveWarning says
why.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Protocol

from pyzcrx._kernel.endpoint import address_of
from pyzcrx._kernel.interface import Interface
from pyzcrx.errors import FallbackWarning, ZcrxError
from pyzcrx.nic import link
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.read import Reader
from pyzcrx.nic.steering import Steered


class PlainReceiveWarning(FallbackWarning):
    """A connection that a program made is not received by zero copy; the text says why."""


NOT_BY_RULE = "its packets do not come by the queue that its rule names"
CONNECTING: ContextVar[bool] = ContextVar("CONNECTING", default=False)
"""Set while an event loop of ours connects a socket for a transport."""
SETTLED: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Sockets that were steered, or could not be, by :func:`pyzcrx.aio.open_connection`."""


class PreparedNic(Protocol):
    """What is asked of what :func:`pyzcrx.nic.prepare` gave."""

    @property
    def ifindex(self) -> int: ...
    def steer(self, flow: Flow | str, /) -> Steered: ...


@dataclass(slots=True, weakref_slot=True)
class Outgoing:
    """A connection that a program makes: its rule, or why it has none."""

    steered: Steered | None = None
    cause: str | None = None
    before: bool = False
    """Whether the rule was made before the connection, so that all of its packets met it."""
    forgotten: weakref.finalize[Any, Any] | None = None
    """What removes the rule if the socket is forgotten."""

    def warn(self, peer: Any, how: str) -> None:
        """Say that it is received by *how*, and why."""
        text = f"the connection to {peer[0]} port {peer[1]} is {how}: {self.cause}"
        warnings.warn(text, PlainReceiveWarning, stacklevel=3)


class Steering:
    """The outgoing connections of one loop over one NIC. Thread of the loop only.

    nic: gives what is set up; not asked before there is a connection that leaves by *interface*.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interface: Interface, nic: Callable[[], PreparedNic]
    ) -> None:
        self._loop = loop
        self._interface = interface
        self._nic = nic

    async def before(self, sock: socket.socket, address: Any) -> Outgoing:
        """Steer what *sock*, which it binds, will receive from *address*."""
        try:
            local = source(sock, address)
        except OSError as error:
            return Outgoing(cause=str(error))  # connecting it fails as well
        cause = elsewhere(self._interface, local, address)
        if cause is not None:
            return Outgoing(cause=cause)
        if not sock.getsockname()[1]:
            sock.bind((local[0], 0, *local[2:]))
        outgoing = await self._steer((local[0], sock.getsockname()[1]), address)
        outgoing.before = True
        return outgoing

    async def after(self, sock: socket.socket) -> Outgoing:
        """Steer what *sock*, which is connected, will receive from now on."""
        local, address = sock.getsockname(), sock.getpeername()
        cause = elsewhere(self._interface, local, address)
        return Outgoing(cause=cause) if cause else await self._steer(local, address)

    async def _steer(self, local: Any, peer: Any) -> Outgoing:
        (dst, _), (src, _) = address_of(local[0]), address_of(peer[0])
        kind: Any = "tcp4" if dst.version == 4 else "tcp6"
        ours: Any = ip_network(dst)
        theirs: Any = ip_network(src)
        flow = Flow(kind, ours, local[1], theirs, peer[1])
        # In a thread: it asks the kernel and writes files, and other programs may hold the lock.
        made = self._loop.run_in_executor(None, self._nic().steer, flow)
        try:
            return Outgoing(await asyncio.shield(made))
        except asyncio.CancelledError:
            made.add_done_callback(self._unwanted)
            raise
        except (ZcrxError, OSError) as error:
            return Outgoing(cause=str(error))

    def _unwanted(self, made: asyncio.Future[Steered]) -> None:
        if not made.cancelled() and made.exception() is None:
            self.release(made.result())

    def release(self, steered: Steered | None) -> None:
        """The connection is over: remove its rule."""
        if steered is None or self._loop.is_closed():
            return
        try:
            gone = self._loop.run_in_executor(None, steered.close)
        except RuntimeError:
            return  # the loop is being closed, and who puts the NIC back removes all rules
        gone.add_done_callback(self._told)

    def release_soon(self, steered: Steered) -> None:
        """As :meth:`release`, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.release, steered)

    def _told(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled() and (error := gone.exception()) is not None:
            context = {"message": "the rule of a connection stays", "exception": error}
            self._loop.call_exception_handler(context)


def source(sock: socket.socket, address: Any) -> Any:
    """The socket address that *sock* will leave from, were it connected to *address*."""
    bound = sock.getsockname()
    named = not address_of(bound[0])[0].is_unspecified
    if bound[1] and named:
        return bound
    with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
        if named:
            probe.bind((bound[0], 0, *bound[2:]))
        probe.connect(address)
        return probe.getsockname()


def elsewhere(interface: Interface, local: Any, peer: Any) -> str | None:
    """Why a connection between these does not arrive at the interface; None: it does."""
    with Reader() as kernel:
        ours = {address_of(text)[0] for text in link.addresses(kernel._rtnetlink, interface.index)}
    address = address_of(local[0])[0]
    if address not in ours:
        return f"it leaves from {address}, which is no address of {interface}"
    if address_of(peer[0])[0] in ours:
        return "its peer is on this machine"
    return None


class Pending:
    """Connections that were made and have no transport yet, by socket."""

    def __init__(self) -> None:
        self._found: weakref.WeakKeyDictionary[socket.socket, Outgoing] = (
            weakref.WeakKeyDictionary()
        )

    def add(self, sock: socket.socket, outgoing: Outgoing, steering: Steering | None) -> None:
        """Until :meth:`take`; a socket that is forgotten before has its rule removed."""
        self._found[sock] = outgoing
        if steering is not None and outgoing.steered is not None:
            outgoing.forgotten = weakref.finalize(sock, steering.release_soon, outgoing.steered)
            outgoing.forgotten.atexit = False

    def take(self, sock: socket.socket) -> Outgoing | None:
        """What was added for *sock*, from now on the caller's."""
        outgoing = self._found.pop(sock, None)
        if outgoing is not None and outgoing.forgotten is not None:
            outgoing.forgotten.detach()
        return outgoing

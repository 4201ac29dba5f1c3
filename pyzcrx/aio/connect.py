"""Servers and clients whose connections are received by zcrx, on any loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from pyzcrx._common.checked import MOST_BYTES, integer
from pyzcrx._kernel.interface import find
from pyzcrx.aio.arrival import Arrival
from pyzcrx.aio.attach import attach_delivery
from pyzcrx.aio.clients import NOT_BY_RULE, SETTLED, PreparedNic, Steering
from pyzcrx.aio.connection import Connection
from pyzcrx.aio.reader import StreamReader
from pyzcrx.aio.writer import StreamWriter
from pyzcrx.errors import BadArgument, NotPermitted
from pyzcrx.ifq import Ifq
from pyzcrx.urgent import drop_urgent

Handle: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]

_LIMIT = 1 << 16
"""asyncio's own."""


def _check(
    ifq: Ifq, room_bytes: int | None, limit: int, options: dict[str, Any]
) -> tuple[int | None, int]:
    """What each connection would be refused for; room_bytes and limit as ints."""
    if room_bytes is not None:
        room_bytes = ifq._room(room_bytes)
    limit = integer("limit", limit, 1, MOST_BYTES)
    if options.get("ssl"):
        raise BadArgument("zero-copy streams have no TLS: leave ssl out, or use asyncio's streams")
    loop = asyncio.get_running_loop()
    if type(loop).__module__.split(".")[0] == "uvloop":
        # UVStream starts to read after connection_made(), whatever that asked for.
        raise BadArgument(
            "uvloop reads before a protocol can pause it, and what it read would be missing: run "
            "on asyncio's loop or pyzcrx.aio.EventLoop, or take attach(ring).events() here"
        )
    return room_bytes, limit


async def start_server(
    handle: Handle,
    host: str | None = None,
    port: int | None = None,
    *,
    ifq: Ifq,
    room_bytes: int | None = None,
    limit: int = _LIMIT,
    **options: Any,
) -> asyncio.Server:
    """As :func:`asyncio.start_server`: *handle(reader, writer)* for each connection.

    host, port: where to listen. ifq: what receives them; its ring belongs to this thread.
    Connections that arrive elsewhere are received by it too, copied by the kernel. room_bytes: the
    most of the area that one connection takes unread (:meth:`pyzcrx.Ifq.stream`). limit: the
    longest line of ``readuntil`` and ``readline``, in bytes. options: those of
    ``loop.create_server()``, but for ``ssl``.

    On a NIC, urgent data is dropped on the listening sockets (:mod:`pyzcrx.urgent`).

    Close the server and its connections before the ring. Raises BadArgument, what the loop
    raises, WrongThread, ClosedError.
    """
    room_bytes, limit = _check(ifq, room_bytes, limit, options)
    loop = asyncio.get_running_loop()
    attached = attach_delivery(ifq._delivery)
    serve = options.pop("start_serving", True)

    def connection() -> Connection:
        return Connection(attached, ifq, room_bytes, limit, handle)

    server = await loop.create_server(connection, host, port, start_serving=False, **options)
    if not ifq.nodev:
        for sock in server.sockets:
            with suppress(NotPermitted):
                drop_urgent(sock.fileno())
    if serve:
        await server.start_serving()
    return server


async def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    ifq: Ifq,
    nic: PreparedNic | None = None,
    room_bytes: int | None = None,
    limit: int = _LIMIT,
    **options: Any,
) -> tuple[StreamReader, StreamWriter]:
    """As :func:`asyncio.open_connection`, received by *ifq*.

    nic: what :func:`pyzcrx.nic.prepare` gave, on which *ifq* is registered. A rule for this
    connection alone is made before it connects, and removed when it is over. Where the
    connection leaves by another interface, or the NIC refuses the rule, the kernel copies what
    arrives, and a PlainReceiveWarning says why; :attr:`StreamReader.zero_copy` tells as well.
    Without *nic* on a NIC what comes back must be steered to the ifq's queue before. A loop that
    is an EventLoop steers by itself: give ``ifq=loop.ifq``.

    host, port: the peer. room_bytes, limit and errors as of :func:`start_server`; options: those
    of ``loop.create_connection()``, but for ``ssl``, with *nic* only ``family``, ``proto``,
    ``flags`` and ``local_addr``. Raises BadArgument (*nic* is none, or not that of *ifq*), and
    what ``loop.create_connection()`` raises.
    """
    room_bytes, limit = _check(ifq, room_bytes, limit, options)
    loop = asyncio.get_running_loop()
    attached = attach_delivery(ifq._delivery)
    over = None
    if nic is not None:
        if not hasattr(nic, "steer"):
            raise BadArgument(f"nic must be what nic.prepare() gave, not {nic!r}")
        if host is None or port is None or ifq.nodev or ifq.ifindex != nic.ifindex:
            raise BadArgument("nic needs host, port, and an ifq that is registered on that NIC")
        sock, over = await _connected(loop, nic, ifq, host, port, **options)
        host, port, options = None, None, {"sock": sock}

    def connection() -> Connection:
        return Connection(attached, ifq, room_bytes, limit, None, over)

    create: Any = loop.create_connection  # host and port may be None beside sock=
    try:
        _, made = await create(connection, host, port, **options)
    except BaseException:
        if over is not None:
            over()
        raise
    streams: tuple[StreamReader, StreamWriter] = made.streams()
    return streams


async def _connected(
    loop: asyncio.AbstractEventLoop,
    nic: PreparedNic,
    ifq: Ifq,
    host: str,
    port: int,
    *,
    local_addr: tuple[str, int] | None = None,
    **options: Any,
) -> tuple[socket.socket, Callable[[], None]]:
    """A socket that is steered and connected, and what ends its steering."""
    unknown = options.keys() - {"family", "proto", "flags"}
    if unknown:
        raise BadArgument(f"with nic there is no {', '.join(sorted(unknown))}; leave it out")
    steering = Steering(loop, find(nic.ifindex), lambda: nic)
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, **options)
    failures: list[OSError] = []
    for family, kind, proto, _, address in infos:
        sock = socket.socket(family, kind, proto)
        steered = None
        try:
            sock.setblocking(False)
            if local_addr is not None:
                sock.bind(local_addr)
            outgoing = await steering.before(sock, address)
            steered = outgoing.steered
            SETTLED.add(sock)
            await loop.sock_connect(sock, address)
            if not Arrival(ifq, sock).zero_copy:
                outgoing.cause = outgoing.cause or NOT_BY_RULE
                outgoing.warn(address, "copied by the kernel")
        except BaseException as error:
            sock.close()
            steering.release(steered)
            if not isinstance(error, OSError):
                raise
            failures.append(error)
        else:
            return sock, partial(steering.release, steered)
    raise failures[0] if failures else OSError("getaddrinfo() returned empty list")

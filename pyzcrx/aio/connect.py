"""Servers and clients whose connections are received by zcrx, on any loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from pyzcrx.aio.attach import attach_delivery
from pyzcrx.aio.connection import Connection
from pyzcrx.aio.reader import StreamReader
from pyzcrx.aio.writer import StreamWriter
from pyzcrx.errors import BadArgument, NotPermitted
from pyzcrx.ifq import Ifq
from pyzcrx.urgent import drop_urgent

Handle: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]

_LIMIT = 1 << 16
"""asyncio's own."""


def _check(options: dict[str, Any]) -> None:
    if options.get("ssl"):
        raise BadArgument("zero-copy streams have no TLS: leave ssl out, or use asyncio's streams")


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
    _check(options)
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
    room_bytes: int | None = None,
    limit: int = _LIMIT,
    **options: Any,
) -> tuple[StreamReader, StreamWriter]:
    """As :func:`asyncio.open_connection`, received by *ifq*.

    On a NIC what comes back must be steered to the ifq's queue: prepare it with a flow of
    ``tcp4 src HOST:PORT`` before. host, port: the peer. room_bytes, limit and errors as of
    :func:`start_server`; options: those of ``loop.create_connection()``, but for ``ssl``.
    """
    _check(options)
    loop = asyncio.get_running_loop()
    attached = attach_delivery(ifq._delivery)

    def connection() -> Connection:
        return Connection(attached, ifq, room_bytes, limit, None)

    create: Any = loop.create_connection  # host and port may be None beside sock=
    _, made = await create(connection, host, port, **options)
    streams: tuple[StreamReader, StreamWriter] = made.streams()
    return streams

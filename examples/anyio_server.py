"""A server on trio, or asyncio, by AnyIO, received by zcrx: prints the SHA-256 of each stream.

    python examples/anyio_server.py 9999 trio|asyncio [INTERFACE QUEUE]

As root; without a NIC: NODEV. `zcrx-nic setup INTERFACE -p 9999` sets one up and says which queue.
"""

import hashlib
import socket
import sys

import anyio

import pyzcrx

AT_ONCE = 1 << 20  # bytes of a connection that may lie in the area unread


async def turns(ring: pyzcrx.Ring) -> None:
    while True:
        await anyio.wait_readable(ring.fileno())
        for event in ring.events(timeout=0):
            event.request.context.send_nowait(event)  # type: ignore[attr-defined]


async def handle(ifq: pyzcrx.Ifq, sock: socket.socket) -> None:
    mine, events = anyio.create_memory_object_stream[pyzcrx.Event](float("inf"))
    digest = hashlib.sha256()
    with sock, mine, events:
        ifq.receive(sock, limit=AT_ONCE, context=mine)
        async for event in events:
            match event:
                case pyzcrx.Data(buffer=buffer):
                    with buffer:
                        digest.update(buffer.view())
                case pyzcrx.Limit():
                    ifq.receive(sock, limit=AT_ONCE, context=mine)
                case pyzcrx.Failed(error=error):
                    raise error
                case pyzcrx.End():
                    break
    print(digest.hexdigest(), flush=True)


async def main(port: int, *card: str) -> None:
    where = {"interface": card[0], "rx_queue": int(card[1])} if card else {}
    with (
        socket.create_server(("", port)) as listener,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(64 << 20) as area,
    ):
        ifq = ring.register_ifq(area, **where)  # type: ignore[arg-type]
        print("listening on port", listener.getsockname()[1], file=sys.stderr, flush=True)
        listener.setblocking(False)
        async with anyio.create_task_group() as group:
            group.start_soon(turns, ring)
            while True:
                await anyio.wait_readable(listener)
                group.start_soon(handle, ifq, listener.accept()[0])


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), *sys.argv[3:], backend=sys.argv[2])

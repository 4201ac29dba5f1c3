"""asyncio on zero-copy receive.

An unmodified program, on a loop whose TCP connections are received by zcrx::

    with asyncio.Runner(loop_factory=pyzcrx.aio.loop_factory()) as runner:
        runner.run(main())

Streams whose bytes lie where the NIC put them, on any loop::

    async def handle(reader, writer):
        async for chunk in reader:
            writer.write(chunk)
            await writer.drain()
        writer.close()

    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(64 << 20) as area:
        ifq = ring.register_ifq(area)
        server = await pyzcrx.aio.start_server(handle, "192.0.2.1", 9999, ifq=ifq)
        await server.serve_forever()

Make the ring in the thread of the loop: it belongs to that thread. Not imported by ``pyzcrx``
itself, as asyncio takes long to import.
"""

from pyzcrx.aio.attach import Attached, attach
from pyzcrx.aio.clients import PlainReceiveWarning
from pyzcrx.aio.connect import open_connection, start_server
from pyzcrx.aio.loop import EventLoop, loop_factory
from pyzcrx.aio.protocol import LeaseProtocol
from pyzcrx.aio.reader import StreamReader
from pyzcrx.aio.selector import RingSelector
from pyzcrx.aio.writer import StreamWriter

__all__ = [
    "Attached",
    "EventLoop",
    "LeaseProtocol",
    "PlainReceiveWarning",
    "RingSelector",
    "StreamReader",
    "StreamWriter",
    "attach",
    "loop_factory",
    "open_connection",
    "start_server",
]

"""An unmodified asyncio server, received by zcrx: prints the SHA-256 of one stream.

asyncio_server.py PORT [INTERFACE QUEUE]: without a NIC by NODEV. zcrx-nic sets a NIC up.
"""

import asyncio
import hashlib
import sys

from pyzcrx import aio

digest = hashlib.sha256()


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 20):
        digest.update(data)
    writer.close()
    done.set()


async def main(port: int) -> None:
    server = await asyncio.start_server(handle, "0.0.0.0", port)
    print("listening on port", server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
    async with server:
        await done.wait()
    print(digest.hexdigest())


done = asyncio.Event()
place = {"interface": sys.argv[2], "rx_queue": int(sys.argv[3])} if len(sys.argv) > 2 else {}
with asyncio.Runner(loop_factory=aio.loop_factory(**place)) as runner:
    runner.run(main(int(sys.argv[1])))

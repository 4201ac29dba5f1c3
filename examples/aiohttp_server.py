"""An aiohttp server, received by zcrx: answers an upload with its SHA-256.

    python examples/aiohttp_server.py 9999 [INTERFACE QUEUE]
    curl -T FILE http://192.0.2.1:9999/NAME

As root; without a NIC: NODEV. `zcrx-nic setup INTERFACE -p 9999` sets one up and says which queue.
SIGINT ends it; it then prints how the bytes were received, as JSON.
"""

import hashlib
import json
import socket
import sys

from aiohttp import web

from pyzcrx import aio


async def upload(request: web.Request) -> web.Response:
    digest = hashlib.sha256()
    async for part in request.content.iter_any():
        digest.update(part)
    return web.Response(text=digest.hexdigest())


async def report(_: web.Application) -> None:
    print(json.dumps(ifq.stats().as_dict()))


app = web.Application()
app.router.add_put("/{name}", upload)
app.on_shutdown.append(report)
place = {"interface": sys.argv[2], "rx_queue": int(sys.argv[3])} if len(sys.argv) > 2 else {}
loop = aio.EventLoop(**place)  # type: ignore[arg-type]
ifq = loop.ifq  # registered before the first client connects
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listening on port", listener.getsockname()[1], file=sys.stderr, flush=True)
web.run_app(app, sock=listener, loop=loop, print=None)

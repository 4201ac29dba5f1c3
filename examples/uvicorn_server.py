"""An ASGI application on uvicorn, received by zcrx: answers an upload with its SHA-256.

    python examples/uvicorn_server.py 9999 [INTERFACE QUEUE]
    curl -T FILE http://192.0.2.1:9999/

As root; without a NIC: NODEV. `zcrx-nic setup INTERFACE -p 9999` sets one up and says which queue.
SIGINT ends it; it then prints how the bytes were received, as JSON.
"""

import asyncio
import hashlib
import json
import socket
import sys

import uvicorn

from pyzcrx import aio


async def app(_scope, receive, send):  # type: ignore[no-untyped-def]
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": digest.hexdigest().encode()})


config = uvicorn.Config(app, loop="none", lifespan="off", log_level="warning")
place = {"interface": sys.argv[2], "rx_queue": int(sys.argv[3])} if len(sys.argv) > 2 else {}
with asyncio.Runner(loop_factory=aio.loop_factory(**place)) as runner:
    ifq = runner.get_loop().ifq  # type: ignore[attr-defined]  # before the first client connects
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
    print("listening on port", listener.getsockname()[1], file=sys.stderr, flush=True)
    try:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))
    except KeyboardInterrupt:
        print(json.dumps(ifq.stats().as_dict()))

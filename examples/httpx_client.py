"""Download by httpx (httpcore, anyio), received by zcrx: prints the body's SHA-256 and size.

    python examples/httpx_client.py http://192.0.2.2:8000/FILE [INTERFACE QUEUE]

As root; without a NIC: NODEV.
"""

import asyncio
import hashlib
import json
import sys

import httpx

from pyzcrx import aio


async def main(url: str) -> None:
    digest, nbytes = hashlib.sha256(), 0
    async with httpx.AsyncClient(timeout=None) as client, client.stream("GET", url) as response:
        response.raise_for_status()
        async for part in response.aiter_raw():
            digest.update(part)
            nbytes += len(part)
    print(digest.hexdigest(), nbytes)
    stats = asyncio.get_running_loop().ifq.stats()  # type: ignore[attr-defined]
    print(json.dumps(stats.as_dict()), file=sys.stderr)


place = {"interface": sys.argv[2], "rx_queue": int(sys.argv[3])} if len(sys.argv) > 2 else {}
with asyncio.Runner(loop_factory=aio.loop_factory(**place)) as runner:
    runner.run(main(sys.argv[1]))

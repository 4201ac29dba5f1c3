"""The fast path: whole batches as columns, seen by numpy, no object for each packet.

    python examples/columns.py 9999 [INTERFACE QUEUE]

As root; without a NIC: NODEV. A NIC is set up before, `zcrx-nic setup INTERFACE -p 9999` does
it and says which queue.

Prints how many bytes came, in how many chunks, and how large the chunks were.
"""

import socket
import sys

import numpy

import pyzcrx


def main(port: int, *card: str) -> None:
    where = {"interface": card[0], "rx_queue": int(card[1])} if card else {}
    with (
        socket.create_server(("", port)) as listener,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(64 << 20) as area,
    ):
        ifq = ring.register_ifq(area, **where)  # type: ignore[arg-type]
        print(f"listening on port {listener.getsockname()[1]}", file=sys.stderr)
        sock, _ = listener.accept()
        ifq.receive(sock)
        chunks, largest = 0, 0
        for batch in ring.batches():
            if batch:
                chunks += len(batch)
                largest = max(largest, int(numpy.asarray(batch.lengths).max()))
            batch.release()
            for event in batch.events:
                if isinstance(event, pyzcrx.Failed):
                    raise event.error
        sock.close()
        print(f"{ifq.stats().bytes} bytes in {chunks} chunks of at most {largest} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

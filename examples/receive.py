"""Receive one TCP connection without a copy and print what it sent, as SHA-256.

    python examples/receive.py 9999 [INTERFACE QUEUE]

As root; without a NIC: NODEV. A NIC is set up before, `zcrx-nic setup INTERFACE -p 9999` does
it and says which queue.
"""

import hashlib
import socket
import sys

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
        request = ifq.receive(sock)
        digest = hashlib.sha256()
        for event in ring.events():
            match event:
                case pyzcrx.Data(buffer=buffer):
                    with buffer:
                        digest.update(buffer.view())
                case pyzcrx.Failed(error=error):
                    raise error
        sock.close()
        print(digest.hexdigest(), request.received)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

"""/proc/net/tcp as the kernel writes it."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from pyzcrx.nic import sockets
from pyzcrx.nic.flow import Flow

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 010200C0:270F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0
   1: 010200C0:270F 076433C6:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0
   2: 010200C0:270F 076433C6:9C41 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   3: 010200C0:270F 076433C6:9C42 04 00000000:00000000 00:00000000 00000000     0        0 13 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address
  0: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 14
  1: 0000000000000000FFFF0000010200C0:0050 0000000000000000FFFF0000076433C6:9C40 01 0:0 0:0 0 0 0 15
"""


def test_ipv4() -> None:
    listening, connected = sockets.parse(TCP)
    assert (str(listening.local), listening.local_port, listening.inode) == ("192.0.2.1", 9999, 11)
    assert listening.listening
    assert (str(connected.peer), connected.peer_port) == ("198.51.100.7", 40000)
    assert not connected.listening
    assert "listening on 192.0.2.1 port 9999" in str(listening)
    assert "with 198.51.100.7 port 40000" in str(connected)


def test_ipv6_and_mapped_ipv4() -> None:
    listening, mapped = sockets.parse(TCP6)
    assert listening.local == ip_address("2001:db8::1")
    assert (str(mapped.local), str(mapped.peer)) == ("192.0.2.1", "198.51.100.7")


def test_our_own_sockets() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        flow = Flow("tcp4", dst_port=port)
        inode = os.fstat(server.fileno()).st_ino
        (found,) = sockets.strangers([flow], sockets.read(), frozenset())
        assert found.inode == inode
        assert inode in sockets.inodes_of()
        assert inode in sockets.inodes_of([os.getpid()])
        assert sockets.strangers([flow], sockets.read(), sockets.inodes_of()) == ()
    assert sockets.inodes_of([1 << 30]) == frozenset()

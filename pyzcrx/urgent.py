"""Keeping TCP urgent data (MSG_OOB) away from payload that the kernel cannot read.

On Linux up to 7.3.4 at least, a segment whose payload lies in an area and holds an urgent
byte is a kernel panic (``net/ipv4/tcp_input.c:tcp_urg()``), and any peer can send one.
Two defences, best both (docs/explanation/security.md):

* :func:`drop_urgent`, a filter on a socket, protects that socket and those accepted from
  it. A stream with urgent data stalls.
* :data:`NFT_RULES` protect every socket of the network namespace, strangers' too, and lose
  nothing: the flag is cleared, and the urgent byte is read in its place like any other.
"""

from __future__ import annotations

import socket

from pyzcrx._common.checked import number_of
from pyzcrx._kernel._ffi import check, lib

NFT_RULES = """\
table inet pyzcrx {
    chain urgent {
        type filter hook input priority raw; policy accept;
        tcp flags & urg == urg tcp urgptr set 0 @th,104,8 set @th,104,8 & 0xdf @th,144,16 set 32
        tcp flags & urg == urg drop
    }
}
"""
"""For ``nft -f -``.

The first rule clears the flag. Linux 7.3 lets nft write the flags only alone (``@th,104,8``),
which leaves TCP's checksum 32 too low: so the urgent pointer, which nothing reads any more,
becomes 0, with the checksum, then 32, without. The second is for where that was refused.
At the input hook IPv4 fragments are whole again.
"""


def drop_urgent(sock: socket.socket | int) -> None:
    """Have the kernel drop the segments of a TCP socket that have the URG flag.

    Do so before it listens or connects, and before privileges are dropped: accepted
    sockets inherit it. :meth:`pyzcrx.Ifq.receive` does so as well on a NIC where it may,
    too late for what came before.
    The peer of a dropped segment sends it again until it gives up. A socket filter that
    is there already stays; then nothing is done.

    Raises NotPermitted (EPERM: Linux 7.3 asks for CAP_NET_ADMIN in the network namespace, 6.18
    does not), NotConnected (EBADF), NotTcp (ENOTSOCK).
    Kernel: ``net/core/filter.c:sk_filter_trim_cap()``, SO_ATTACH_FILTER (2.2).
    """
    fd = number_of(sock)
    check(lib.pz_drop_urgent(fd), "receive", f"fd {fd}")

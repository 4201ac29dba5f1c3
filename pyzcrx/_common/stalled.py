"""Connections that are not read before something can be sent, and why some is read all the same.

Who reads nothing before he can send may wait for ever, as news that its peer reads again are lost
on it. Short segments overfill a receive buffer, since the kernel cannot collapse what lies in an
area. What does not fit is dropped, and the window that was offered for it is closed
(ICSK_ACK_NOMEM, 6.6). What the peer sends then begins before that, and the kernel takes the
peer's window from no segment that begins before one it has seen
(``net/ipv4/tcp_input.c:tcp_may_update_window()``). So whoever holds a source back reads on after a
while without progress: the buffer has room again, what was dropped comes again, and with it the
window.
"""

from __future__ import annotations

AFTER_S = 1.0
"""Without progress for so long, some is read."""
RELIEF_BYTES = 256 << 10
"""So much at a time."""

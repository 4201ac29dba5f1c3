"""Ways to take the card away, and what to wait for afterwards."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from tests.guest.card import Sim, run
from tests.guest.stuck import stuck
from tests.leaks import free_deferred_skbs, pinned_pages
from tests.patience import START_S, until

DRIVER = Path("/sys/bus/platform/drivers/zcrxsim")


def unbind() -> None:
    """As when a card is unplugged."""
    (DRIVER / "unbind").write_text("zcrxsim.0\n")


def unload() -> None:
    """As when its driver is removed."""
    run("rmmod", "zcrxsim")


def close_by_reset(sock: socket.socket) -> None:
    """Whenever it is closed: with data to send a plain close leaves an orphan, for minutes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def abort(sock: socket.socket) -> None:
    """Close by a reset: an orphan would keep its namespace."""
    close_by_reset(sock)
    sock.close()


def settle() -> None:
    """Wait until the sockets of the dead are gone, and with them every pinned page.

    The orphan count is machine-wide: it includes the namespaces that were removed by name.
    """
    until(
        lambda: " orphan 0 " in Path("/proc/net/sockstat").read_text(),
        lambda: f"orphans stay: one of these, or in a removed namespace\n{stuck(Sim.netns)}",
        patience_s=START_S,
    )
    free_deferred_skbs()
    until(lambda: pinned_pages() <= 0, "pages stay pinned", patience_s=START_S)

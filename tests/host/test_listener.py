"""The listening socket: errors at once, but for a port that nobody has any more."""

from __future__ import annotations

import errno
import socket
import threading
import time

import pytest

import pyzcrx
import pyzcrx.nic.sockets  # now: what it imports maps libraries
from pyzcrx.cli import listener
from tests.leaks import nothing_leaks


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        pytest.fail("it waits for what will not change")

    monkeypatch.setattr(time, "sleep", sleep)


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1"])
def test_a_port_that_somebody_has(host: str) -> None:
    with nothing_leaks(), listener.listen(host, 0) as first:
        with pytest.raises(pyzcrx.KernelError) as caught:
            listener.listen(host, first.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        assert "ss -ltnp" in caught.value.hint


@pytest.mark.usefixtures("_no_waiting")
def test_no_address() -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="is no address"):
        listener.listen("no such host.", 0)


def test_a_port_that_nobody_has_any_more_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    monkeypatch.setattr(listener, "_RETRY_S", 0.001)
    found = listener._has_owner

    def has_owner(port: int) -> bool:
        waits.set()
        return found(port)

    monkeypatch.setattr(listener, "_has_owner", has_owner)
    with nothing_leaks():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with listener.listen("", 0) as orphan:
                port = orphan.getsockname()[1]
                # On its way, it belongs to no process, as what a ring still has.
                socket.send_fds(ours, [b"x"], [orphan.fileno()])

            def let_go() -> None:
                assert waits.wait(30)
                theirs.close()

            thread = threading.Thread(target=let_go)
            thread.start()
            listener.listen("", port).close()
            thread.join()

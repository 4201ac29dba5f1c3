"""The card is taken away, renamed or moved while a queue of it is bound."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

import pyzcrx
from tests.guest.card import CARD, PATIENCE_S, Sim, register, run
from tests.guest.echo import START_S, Echo, exchange
from tests.guest.test_bench import COOKIE, Served
from tests.guest.test_receive import connected
from tests.namespaces import namespace
from tests.patience import until
from tests.sim.removal import DRIVER, abort, unbind, unload

MIB = 1 << 20

take_away = pytest.mark.parametrize("take_away", [unbind, unload])


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A network namespace to move the card to."""
    with namespace("elsewhere") as name:
        yield name


def move(sim: Sim, namespace: str) -> None:
    run("ip", "link", "set", sim.interface, "netns", namespace)


def move_back(sim: Sim, namespace: str) -> None:
    """And give it the addresses that it has lost on its way."""
    run("ip", "-n", namespace, "link", "set", sim.interface, "netns", "1")
    run("ip", "addr", "add", f"{sim.server}/24", "dev", sim.interface)
    run("ip", "addr", "add", f"{sim.server_v6}/64", "dev", sim.interface, "nodad")
    run("ip", "link", "set", sim.interface, "up")


def receive_until_gone(take_away: Callable[[], None]) -> None:
    """Receive some, have the card taken away in mid-stream, be told."""
    data = os.urandom(64 << 10)
    got = bytearray()
    failures = []
    with (
        connected() as (client, sock),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(16 * MIB) as area,
    ):
        ifq = register(ring, area)
        request = ifq.receive(sock)
        client.sendall(data)
        kept = None
        for event in ring.events(timeout=PATIENCE_S):
            match event:
                case pyzcrx.Data(buffer=buffer):
                    got += buffer
                    if len(got) < len(data):
                        buffer.release()
                    else:
                        kept = buffer
                        take_away()
                case pyzcrx.Failed(error=error):
                    failures.append(error)
        assert [type(error) for error in failures] == [pyzcrx.errors.InterfaceGone]
        assert failures[0] is ifq.gone
        assert ifq.gone.errno == errno.ENODEV
        assert "taken away" in str(ifq.gone)
        assert request.over
        assert got == data
        assert kept is not None
        assert kept.view() == data[-len(kept) :]  # what was delivered stays
        kept.release()
        with pytest.raises(pyzcrx.errors.InterfaceGone):
            ifq.receive(sock)
        abort(client)


@pytest.mark.usefixtures("put_back")
@take_away
def test_requests_fail_when_the_card_is_taken_away(take_away: Callable[[], None]) -> None:
    receive_until_gone(take_away)


@pytest.mark.usefixtures("put_back")
def test_requests_fail_when_it_is_taken_away_in_another_namespace(sim: Sim, elsewhere: str) -> None:
    def take_away() -> None:
        move(sim, elsewhere)
        unbind()

    receive_until_gone(take_away)


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize("connections", [0, 3])
@take_away
def test_echo_ends_with_the_reason(take_away: Callable[[], None], connections: int) -> None:
    with Echo() as echo:
        socks = [echo.connect() for _ in range(connections)]
        for sock in socks:
            sock.sendall(b"first")
            assert sock.recv(5) == b"first"
        take_away()
        assert echo.process.wait(START_S) == 1
        until(lambda: bool(echo.errors), "not a word")
        assert [line for line in echo.errors if "taken away" in line] == list(echo.errors)
        for sock in socks:
            abort(sock)


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize("connections", [0, 3])
@take_away
def test_an_iperf3_server_ends_with_the_reason(
    take_away: Callable[[], None], connections: int
) -> None:
    server = Served()
    with closing(server.process):
        socks = [server.connect() for _ in range(connections)]
        for sock in socks:
            sock.sendall(COOKIE)
            assert sock.recv(1)  # it runs a test with the first, and denies the others
        take_away()
        _, err = server.process.communicate(START_S)
        assert server.process.returncode == 1
        [line] = err.splitlines()
        assert line.startswith("zcrx-bench: receive")
        assert "taken away" in line
        for sock in socks:
            abort(sock)


@pytest.mark.usefixtures("put_back")
def test_a_card_that_comes_back_is_there(sim: Sim) -> None:
    unbind()
    assert not os.path.exists(f"/sys/class/net/{sim.interface}")
    (DRIVER / "bind").write_text("zcrxsim.0\n")
    assert os.path.exists(f"/sys/class/net/{sim.interface}")


def test_renamed_while_bound(sim: Sim) -> None:
    data = os.urandom(2 * MIB)
    with Echo() as echo, echo.connect() as sock:
        assert sock.send(b"first") == 5
        assert sock.recv(5) == b"first"
        run("ip", "link", "set", sim.interface, "name", "renamed")
        try:
            assert exchange(sock, data) == data
        finally:
            run("ip", "link", "set", "renamed", "name", sim.interface)


def test_moved_to_another_namespace_and_back_while_bound(sim: Sim, elsewhere: str) -> None:
    data = os.urandom(2 * MIB)
    with Echo() as echo, echo.connect() as sock:
        assert sock.send(b"first") == 5
        assert sock.recv(5) == b"first"
        move(sim, elsewhere)
        move_back(sim, elsewhere)
        assert exchange(sock, data) == data
        with echo.connect() as another:
            assert exchange(another, data) == data


def test_pairs_made_and_removed_at_run_time() -> None:
    def write(file: str, text: str) -> int:
        try:
            (DRIVER / file).write_text(text)
        except OSError as error:
            return int(error.errno or 0)
        return 0

    assert [write("new_pair", text) for text in ("0", "67", "x")] == [errno.EINVAL] * 3
    assert write("del_pair", "1") == errno.ENODEV
    run("ip", "link", "add", "zcrx2", "type", "dummy")  # its name is taken
    try:
        assert write("new_pair", "2") == errno.ENODEV
    finally:
        run("ip", "link", "del", "zcrx2")
    assert write("new_pair", "2") == 0
    assert os.path.exists("/sys/class/net/zcrx2")
    assert write("del_pair", "1") == 0
    assert not os.path.exists("/sys/class/net/zcrx2")
    assert isinstance(CARD, Sim)
    assert os.path.exists(f"/sys/class/net/{CARD.interface}")

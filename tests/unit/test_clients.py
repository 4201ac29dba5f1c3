"""Steering of connections that a program makes: on loopback, with a NIC that only keeps lists."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pyzcrx._kernel.interface import Interface, find
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.aio import PlainReceiveWarning, clients
from pyzcrx.aio.clients import Outgoing, Pending, Steering, elsewhere, source
from pyzcrx.nic import Flow, Steered

PEER = ("127.0.0.2", 9)


class Nic:
    """Has rules; refuses with *error*, waits for *may* before it answers."""

    ifindex = 1

    def __init__(self) -> None:
        self.rules: list[Flow] = []
        self.error: Exception | None = None
        self.may = threading.Event()
        self.may.set()

    def steer(self, flow: Flow | str) -> Steered:
        assert isinstance(flow, Flow)
        assert self.may.wait(30)
        if self.error is not None:
            raise self.error
        self.rules.append(flow)
        return Steered(flow, lambda: self.rules.remove(flow))


@pytest.fixture
def nic(monkeypatch: pytest.MonkeyPatch) -> Nic:
    monkeypatch.setattr(clients, "elsewhere", lambda *_: None)
    return Nic()


def steering(nic: Nic) -> Steering:
    return Steering(asyncio.get_running_loop(), Interface(1, "lo"), lambda: nic)


async def until(what: Callable[[], object]) -> None:
    while not what():
        await asyncio.sleep(0.001)


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_rule_is_of_one_connection_and_goes_with_it(nic: Nic) -> None:
    async def body() -> None:
        of_loop = steering(nic)
        with socket.socket() as sock:
            outgoing = await of_loop.before(sock, PEER)
            host, port = sock.getsockname()
            assert port
            assert list(map(str, nic.rules)) == [f"tcp4 dst {host}:{port} src 127.0.0.2:9"]
            assert outgoing.before
            of_loop.release(outgoing.steered)
            await until(lambda: not nic.rules)
            of_loop.release(None)

    run(body)


def test_a_connected_socket_gets_its_rule_afterwards(nic: Nic) -> None:
    async def body() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as sock,
        ):
            outgoing = await steering(nic).after(sock)
            (rule,) = nic.rules
            assert (rule.dst_port, rule.src_port) == (
                sock.getsockname()[1],
                sock.getpeername()[1],
            )
            assert not outgoing.before
        with socket.socket() as unconnected, pytest.raises(OSError, match="connected"):
            await steering(nic).after(unconnected)

    run(body)


@pytest.mark.parametrize(
    "error", [kernel_error(errno.ENOSPC, "insert rule", "eth0"), OSError("no")]
)
def test_a_refusal_is_a_cause(nic: Nic, error: Exception) -> None:
    async def body() -> None:
        nic.error = error
        with socket.socket() as sock:
            outgoing = await steering(nic).before(sock, PEER)
        assert outgoing.steered is None
        assert outgoing.cause == str(error)
        with pytest.warns(PlainReceiveWarning, match="127.0.0.2 port 9 is copied: ") as caught:
            outgoing.warn(PEER, "copied")
        assert str(error) in str(caught[0].message)

    run(body)


def test_cancelled_meanwhile_the_rule_goes(nic: Nic) -> None:
    async def body() -> None:
        nic.may.clear()
        with socket.socket() as sock:
            making = asyncio.ensure_future(steering(nic).before(sock, PEER))
            await asyncio.sleep(0)
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            nic.may.set()
            await until(lambda: sock.getsockname()[1])
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            await until(lambda: not nic.rules)

    run(body)


def test_a_socket_that_is_forgotten_takes_its_rule_along(nic: Nic) -> None:
    async def body() -> None:
        of_loop, pending = steering(nic), Pending()
        sock = socket.socket()
        pending.add(sock, await of_loop.before(sock, PEER), of_loop)
        kept = socket.socket()
        pending.add(kept, await of_loop.before(kept, PEER), of_loop)
        taken = pending.take(kept)
        assert taken is not None
        assert pending.take(kept) is None
        assert len(nic.rules) == 2
        sock.close()
        kept.close()
        del sock, kept
        gc.collect()
        await until(lambda: len(nic.rules) == 1)
        assert taken.steered is not None
        assert nic.rules == [taken.steered.flow]

    run(body)


def test_a_rule_that_stays_is_told(nic: Nic) -> None:
    async def body() -> None:
        told: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        of_loop = steering(nic)
        with socket.socket() as sock:
            outgoing = await of_loop.before(sock, PEER)
            nic.rules.clear()
            of_loop.release(outgoing.steered)  # ValueError: it is not there
            await until(lambda: told)
        assert "stays" in told[0]["message"]
        await loop.shutdown_default_executor()
        of_loop.release(Steered(Flow(src_port=1), lambda: None))  # the NIC's set-up does it

    run(body)


def test_where_a_socket_would_leave_from() -> None:
    with socket.socket() as sock:
        assert source(sock, PEER)[0] == "127.0.0.1"
        sock.bind(("127.0.0.3", 0))
        assert source(sock, PEER) == sock.getsockname()
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        assert source(sock, PEER)[0] == "127.0.0.1"


def test_what_does_not_arrive_at_the_interface() -> None:
    lo = find("lo")
    assert elsewhere(lo, ("127.0.0.1", 1), ("192.0.2.1", 2)) is None
    assert elsewhere(lo, ("127.0.0.1", 1), ("127.0.0.1", 2)) == "its peer is on this machine"
    cause = elsewhere(lo, ("203.0.113.9", 1), ("192.0.2.1", 2))
    assert cause == "it leaves from 203.0.113.9, which is no address of lo"


def test_no_route_is_the_connections_own_error(nic: Nic) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_INET6) as sock:
            outgoing = await steering(nic).before(sock, ("2001:db8::1", 1, 0, 0))
            # Where this machine has a route, there is a rule instead.
            assert (outgoing.cause is None) == bool(nic.rules)
        assert Outgoing().cause is None

    run(body)

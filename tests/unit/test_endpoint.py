"""Hosts as users write them: what each of them is, and where it listens."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel import endpoint
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.iperf3_sender import Iperf3Sender
from pyzcrx.bench.job import ReceiveJob
from pyzcrx.bench.meter import Meter
from pyzcrx.bench.plan import Plan
from pyzcrx.bench.ports import Ports
from pyzcrx.cli import listener
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.plan import listening_flows
from tests.unit.nic.cards import card

IFA_F_TENTATIVE = 0x40
LO = socket.if_nametoindex("lo")


@pytest.mark.parametrize(
    ("host", "means"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0::1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("[::FFFF:7f00:1]", "127.0.0.1"),
        ("::", "::"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("[fe80::1%1]", "fe80::1%1"),
        ("localhost", "localhost"),
        ("a-b.example.", "a-b.example."),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_what_a_host_means(host: str, means: str) -> None:
    assert endpoint.checked(host) == means


NO_HOSTS = (
    *("", " ", "a b", "-a", "a..b", "1", "1.2.3", "0x7f.1", "0X1", "1.2.3.4.5", "300.1.1.1", "٣"),
    *("127.0.0.1%lo", "[127.0.0.1]", "[::1", "::1]", "[localhost]", "::1:80:", "fe80::1%"),
    *("fe80::1%a b", "a/b", "a" * 64, "a." * 127, "\udcff", "\x00", "host:80"),
)


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument) as caught:
        endpoint.checked(host)
    assert len(str(caught.value).splitlines()) == 1


def test_a_scope_stays_part_of_the_address() -> None:
    for scope in ("lo", str(LO)):
        [found] = endpoint.resolve(f"fe80::1%{scope}", 80)
        assert found.sockaddr == ("fe80::1", 80, 0, LO)
        assert found.host == "fe80::1%lo"
    with pytest.raises(pyzcrx.errors.BadArgument, match="no interface 'nosuch0'"):
        endpoint.resolve("fe80::1%nosuch0")


def test_a_link_local_address_is_bound_with_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interface here need have one: what the kernel is asked is seen instead."""
    asked = []

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            asked.append(address)
            super().bind(("::1", *address[1:3], 0))

    monkeypatch.setattr(socket, "socket", Socket)
    endpoint.listen("[fe80::1%lo]", 0, 1).close()
    assert asked == [("fe80::1", 0, 0, LO)]


def test_the_address_of_a_bound_socket_has_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ports, "__init__", lambda *_: None)

    class Bound:
        def getsockname(self) -> Any:
            return ("fe80::1", 80, 0, LO)

        def close(self) -> None:
            pass

    ports = Ports("", 1)
    ports._sockets = [Bound()]  # type: ignore[list-item]
    assert ports.host == "fe80::1%lo"


def link_locals() -> Iterator[str]:
    """The addresses of this machine's interfaces that are nothing without a scope."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, index, _, scope, flags, _ = line.split()
        if scope == "20" and not int(flags, 16) & IFA_F_TENTATIVE:
            yield f"{ip_address(bytes.fromhex(digits))}%{int(index, 16)}"


def test_link_local_addresses_of_this_machine() -> None:
    found = list(link_locals())
    if not found:
        pytest.skip("expected: no interface has a link-local address")
    for host in found:
        with Ports(host, 1) as ports, endpoint.listen(ports.host, 0, 1) as sock:
            assert sock.getsockname()[0] == host.partition("%")[0]
            socket.create_connection((endpoint.host_of(sock), sock.getsockname()[1])).close()


Listen = Callable[[str], tuple[str, int]]


def by_listener(host: str) -> tuple[str, int]:
    with listener.listen(host, 0) as sock:
        return sock.getsockname()[0], sock.family


def by_ports(host: str) -> tuple[str, int]:
    with Ports(host, 2) as ports:
        assert len(set(ports.numbers)) == 2
        return ports.host, ports._sockets[1].family


def by_gate(host: str) -> tuple[str, int]:
    gate = Gate(ReceiveJob("recv_into", host, 0), Meter())
    assert gate._listener is not None
    with gate._listener as sock:
        return sock.getsockname()[0], sock.family


def by_iperf3(host: str) -> tuple[str, int]:
    with Iperf3Sender(Plan(("columns",), host=host), None) as sender:
        return sender._listener.getsockname()[0], sender._listener.family


@pytest.mark.parametrize("listen", [by_listener, by_ports, by_gate, by_iperf3])
def test_everything_that_listens_takes_every_host(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyzcrx.bench.iperf3_sender.begin", lambda *_args, **_kwargs: None)
    assert listen("127.0.0.1") == ("127.0.0.1", socket.AF_INET)
    assert listen("::ffff:127.0.0.1") == ("127.0.0.1", socket.AF_INET)
    assert listen("[::1]") == ("::1", socket.AF_INET6)
    with pytest.raises(pyzcrx.errors.BadArgument):
        listen("fe80::1%nosuch0")
    with pytest.raises(pyzcrx.KernelError) as caught:
        listen("198.51.100.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL

    def several(*_args: Any, **_kwargs: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    assert listen("here.example") == ("127.0.0.1", socket.AF_INET)


def test_a_busy_port_of_a_name_is_not_made_up_for_by_another_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = [(socket.AF_INET, 1, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: found)
        with pytest.raises(pyzcrx.KernelError) as caught:
            endpoint.listen("here.example", port, 1)
        assert caught.value.errno == errno.EADDRINUSE


def test_flows_take_the_same_addresses() -> None:
    assert str(Flow.parse("tcp6 dst [fe80::1%eth0]:80")) == "tcp6 dst [fe80::1]:80"
    assert str(Flow.parse("tcp6 dst [fe80::%3]/64:80")) == "tcp6 dst [fe80::]/64:80"
    for text in ("tcp6 dst [::ffff:192.0.2.1]:80", "tcp6 dst [fe80::1%]:80", "tcp6 dst [::1"):
        with pytest.raises(pyzcrx.errors.BadArgument):
            Flow.parse(text)


def test_flows_of_a_listener() -> None:
    state = card()
    name, index = state.interface, state.ifindex
    for scope in (name, index):
        [flow] = listening_flows(state, 80, f"fe80::1%{scope}")
        assert str(flow) == "tcp6 dst [fe80::1]:80"
    with pytest.raises(pyzcrx.errors.BadArgument, match="not an address of"):
        listening_flows(state, 80, "fe80::1%other0")
    [flow] = listening_flows(state, 80, "::ffff:192.0.2.1")
    assert str(flow) == "tcp4 dst 192.0.2.1:80"
    assert listening_flows(state, 80, "::") == listening_flows(state, 80)
    assert {flow.protocol for flow in listening_flows(state, 80, "0.0.0.0")} == {"tcp4"}


def test_a_sender_elsewhere_has_an_interface_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(("columns",), host="fe80::1%eth0", netns="peer")
    monkeypatch.setattr("pyzcrx.bench.plan.interfaces_in", lambda _netns: ["eth7"])
    assert plan.connect_to == "fe80::1%eth7"
    monkeypatch.setattr("pyzcrx.bench.plan.interfaces_in", lambda _netns: ["eth7", "eth8"])
    with pytest.raises(pyzcrx.ZcrxError, match="2 interfaces"):
        _ = plan.connect_to
    assert Plan(("columns",), host="fe80::1%eth0").connect_to == "fe80::1%eth0"

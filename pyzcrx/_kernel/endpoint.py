"""Where to listen or to connect: a host as users write it, and its socket addresses.

A host is an IPv4 address, an IPv6 address (also in brackets, with a scope: ``fe80::1%eth0``
or ``fe80::1%2``) or a name. An IPv4 address written as one of IPv6 (``::ffff:192.0.2.1``) is
the IPv4 address: its packets are of IPv4. The kernel's socket address stays whole, as its
scope is a part of it.
"""

from __future__ import annotations

import errno
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from pyzcrx._kernel.meanings import kernel_error, typed
from pyzcrx.errors import BadArgument

Address = IPv4Address | IPv6Address
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NAME_MOST = 253
_SCOPE = re.compile(r"[^\s/%\x00-\x1f\x7f\ud800-\udfff]{1,127}")
_ELSEWHERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Why one address of a name is none of this machine's, though another may be."""


def address_of(text: str) -> tuple[Address, str]:
    """The address and the scope ('' for none) of *text*, which is no name.

    Raises BadArgument.
    """
    bracketed = text[:1] == "[" and text[-1:] == "]"
    bare, percent, scope = (text[1:-1] if bracketed else text).partition("%")
    try:
        address = ip_address(bare)
    except ValueError:
        raise BadArgument(f"{text!r} is no address") from None
    if address.version == 4 and (bracketed or percent):
        raise BadArgument(f"{text!r} is no address: brackets and scopes are for IPv6")
    if percent and not _SCOPE.fullmatch(scope):
        raise BadArgument(f"{text!r} is no address: behind % is the name of an interface")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped, ""
    return address, scope


def checked(host: str) -> str:
    """*host* as the other functions here take it; nothing is resolved.

    Raises BadArgument for what can be neither an address nor a name.
    """
    last = host.rstrip(".").rpartition(".")[2]
    # No top-level domain is a number: inet_aton() would make 0.0.0.1 of "1".
    if not {*":%[]"}.isdisjoint(host) or last.isdecimal() or last[:2].lower() == "0x":
        address, scope = address_of(host)
        return f"{address}%{scope}" if scope else str(address)
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    labels = name.removesuffix(".").split(".")
    if len(name) > _NAME_MOST or not all(map(_LABEL.fullmatch, labels)):
        raise BadArgument(f"{host!r} is no address and no name of a host")
    return name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One socket address, as getaddrinfo() gives it."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The address in digits, with its scope."""
        return _digits(self.sockaddr)


def _digits(sockaddr: tuple[Any, ...]) -> str:
    return socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]


def host_of(sock: socket.socket) -> str:
    """The address that a socket is bound to; getsockname()'s first member lacks the scope."""
    return _digits(sock.getsockname())


def resolve(host: str, port: int = 0) -> list[Endpoint]:
    """Every socket address of a host, the preferred first. Raises BadArgument."""
    name = checked(host)
    try:
        found = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | _numeric(name)
        )
    except socket.gaierror as error:
        scope = name.partition("%")[2]
        why = f"there is no interface {scope!r}" if scope else error.strerror
        raise BadArgument(f"{host!r} is no address: {why}") from None
    return [Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found]


def _numeric(name: str) -> int:
    """A flag for getaddrinfo() that keeps an address from the resolver."""
    with suppress(BadArgument):
        address_of(name)
        return socket.AI_NUMERICHOST
    return 0


def bind(host: str, port: int, *, reuse: bool = True) -> socket.socket:
    """A socket bound to the first of the host's addresses that this machine has.

    reuse: SO_REUSEADDR before it is bound. Raises BadArgument (*host*), KernelError.
    """
    refused: OSError | None = None
    for each in resolve(host, port):
        try:
            sock = socket.socket(each.family, socket.SOCK_STREAM)
        except OSError as error:
            refused = refused or error
            continue
        try:
            if each.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if reuse:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(each.sockaddr)
            return sock
        except OSError as error:
            sock.close()
            if error.errno not in _ELSEWHERE:
                refused = error
                break
            refused = refused or error
    assert refused is not None  # getaddrinfo() gives one address at least
    raise kernel_error(refused.errno or 0, "listen", f"{host} port {port}") from None


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket there. Raises as :func:`bind`."""
    sock = bind(host, port)
    try:
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise typed(error, "listen", f"{host} port {port}") from None
    return sock

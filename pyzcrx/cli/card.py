"""The NIC of a command that receives: its options, and set up for as long as it runs."""

from __future__ import annotations

import functools
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING

import click

from pyzcrx._kernel.endpoint import host_of
from pyzcrx._kernel.interface import Interface, find
from pyzcrx.cli.values import INTERFACE, QUEUE
from pyzcrx.errors import BadArgument, KernelError
from pyzcrx.ring import Ring

if TYPE_CHECKING:
    from pyzcrx.nic.setup import Setup

# Modules of pyzcrx.nic are imported where they are used: who uses no NIC needs no
# pyroute2, whose import is slow.


@dataclass(frozen=True)
class CardOptions:
    """What the command line says of the NIC."""

    given: str | None
    """The interface by any of its names."""
    queue: int | None
    set_up: bool
    force: bool

    def check(self) -> None:
        """Raises UsageError for what cannot be meant."""
        if self.given is None and self.queue is not None:
            raise click.UsageError("--queue is one of an --interface")
        if not self.set_up and (self.given is None or self.queue is None):
            raise click.UsageError("--no-setup-nic needs --interface and --queue")

    @cached_property
    def found(self) -> Interface | None:
        """The interface, looked up once: a name may change. Raises NoSuchInterface."""
        return None if self.given is None else find(self.given)

    @property
    def interface(self) -> str | None:
        """Its primary name, which sysfs and other programs take."""
        return None if self.found is None else self.found.name

    @property
    def prepared(self) -> int | None:
        """The index of the interface that is ours to set up, if any."""
        return self.found.index if self.set_up and self.found is not None else None

    def address(self) -> str | None:
        """The NIC's first address: global before link-local ones, IPv4 before IPv6."""
        if self.found is None:
            return None
        from pyzcrx.nic.read import read

        state = read(self.found.index)
        if not state.addresses:
            raise BadArgument(f"{self.interface} has no address to receive on; see ip address")
        address = min(map(ip_address, state.addresses), key=lambda a: (a.is_link_local, a.version))
        # A link-local address is one of each interface.
        return f"{address}%{state.ifindex}" if address.is_link_local else str(address)

    def for_listener(
        self,
        listener: socket.socket,
        ring: Ring,
        stack: ExitStack,
        *,
        area_bytes: int,
        supervised: bool = False,
    ) -> Setup | None:
        """The NIC, for what comes to *listener* into an area; None where it is left alone.

        At the end of *stack* the ring is closed, then the NIC put back, or with
        *supervised* left to the supervisor: who gives root up cannot.
        """
        if self.prepared is None:
            return None
        from pyzcrx.nic.plan import Wanted, listening_flows
        from pyzcrx.nic.read import read
        from pyzcrx.nic.setup import Setup

        address, port = host_of(listener), listener.getsockname()[1]
        host = None if address in ("::", "0.0.0.0") else address
        ipv6 = listener.family == socket.AF_INET6
        flows = listening_flows(read(self.prepared), port, host, ipv6=ipv6)
        wanted = Wanted(flows, self.queue, force=self.force, area_bytes=area_bytes)
        card = Setup(self.prepared, wanted)
        if supervised:
            stack.callback(card.abandon)
        else:
            stack.enter_context(card)
        stack.callback(ring.close)  # before the NIC is put back
        return card

    def for_ports(
        self, host: str, ports: Sequence[int], stack: ExitStack, *, area_bytes: int
    ) -> tuple[int, ...]:
        """The queues for *host*'s ports, one each; put back at the end of *stack*.

        Without a NIC they are only numbers.
        """
        if self.prepared is None:
            first = self.queue or 0
            return tuple(range(first, first + len(ports)))
        from pyzcrx.nic.plan import Wanted, listening_flows
        from pyzcrx.nic.read import read
        from pyzcrx.nic.setup import Setup

        state = read(self.prepared)
        flows = [flow for port in ports for flow in listening_flows(state, port, host)]
        wanted = Wanted(
            tuple(flows),
            self.queue,
            len(ports),
            in_turn=True,
            force=self.force,
            area_bytes=area_bytes,
        )
        return stack.enter_context(Setup(self.prepared, wanted)).queues


def card_options(command: Callable[..., None]) -> Callable[..., None]:
    """The four options, as ``card``."""

    @click.option("-i", "--interface", type=INTERFACE, help="NIC to receive on.")
    @click.option(
        "-q",
        "--queue",
        type=QUEUE,
        help="Its rx queue.  [default: the last that is free]",
    )
    @click.option(
        "--no-setup-nic",
        is_flag=True,
        help="The NIC is set up already: leave it alone. Needs --queue.",
    )
    @click.option(
        "--force", is_flag=True, help="Steer the port here even if other programs listen on it."
    )
    @functools.wraps(command)
    def wrapped(
        *args: object,
        interface: str | None,
        queue: int | None,
        no_setup_nic: bool,
        force: bool,
        **kwargs: object,
    ) -> None:
        card = CardOptions(interface, queue, not no_setup_nic, force)
        command(*args, card=card, **kwargs)

    return wrapped


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the block as Ctrl-C does; further ones change nothing.

    So what the block puts back is put back.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Watch:
    """Says what others change on our NIC, once each."""

    PERIOD_S = 10.0

    def __init__(self, card: Setup | None) -> None:
        self._card = card
        self._said: set[str] = set()
        self._due = time.monotonic() + self.PERIOD_S if card is not None else float("inf")

    def left(self, interval: float | None = None) -> float | None:
        """Seconds to wait at most, where *interval* is what else there is to wait for."""
        if self._card is None:
            return interval
        left = max(0.0, self._due - time.monotonic())
        return left if interval is None else min(left, interval)

    def look(self) -> None:
        if self._card is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self.PERIOD_S
        try:
            found = self._card.check()
        except KernelError as error:
            found = [str(error)]
        for text in found:
            if text not in self._said:
                self._said.add(text)
                warnings.warn(text, stacklevel=1)

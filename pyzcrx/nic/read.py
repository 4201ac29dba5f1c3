"""A NIC's state, read from the kernel. Changes nothing, needs no privilege."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from pyzcrx._common.leaving import Closing
from pyzcrx._kernel.interface import find
from pyzcrx.errors import KernelError, NoSuchInterface
from pyzcrx.nic import irq, link
from pyzcrx.nic.ethtool import Ethtool
from pyzcrx.nic.netdev import Netdev
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.state import Napi, Queue, State

_T = TypeVar("_T")


class Reader(Closing):
    """The sockets for reading; one for as many states as you like. Any thread, one at a time."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._rtnetlink = stack.enter_context(link.open_rtnetlink())
            self._ethtool = stack.enter_context(Ethtool())
            self._netdev = self._open_netdev(stack)
            self._stack = stack.pop_all()

    @staticmethod
    def _open_netdev(stack: ExitStack) -> Netdev | None:
        try:
            return stack.enter_context(Netdev())
        except KernelError:
            return None  # before Linux 6.3

    def close(self) -> None:
        """Close the sockets."""
        self._stack.close()

    def state(self, interface: str | int) -> State:
        """Everything of one NIC. What cannot be read is None or empty, ``unread`` says why.

        interface: its name, an alternative name, or its index. Raises NoSuchInterface.
        """
        ifindex = find(interface).index
        base = link.read(self._rtnetlink, ifindex)
        unread: list[str] = []

        def attempt(read: Callable[[], _T], otherwise: _T) -> _T:
            try:
                return read()
            except NoSuchInterface:
                raise
            except KernelError as error:
                unread.append(str(error))
                return otherwise

        netdev, ethtool, ntuple = self._netdev, self._ethtool, Ntuple(ifindex)
        if netdev is None:
            unread.append("queues and NAPI instances: this kernel has no netdev netlink family")
        driver, firmware, bus = attempt(ntuple.driver, None) or (None, None, None)
        rules, slots = attempt(ntuple.rules, None) or (None, None)
        napis: tuple[Napi, ...] = ()
        queues: tuple[Queue, ...] = ()
        xdp_features = None
        if netdev is not None:
            napis = attempt(partial(netdev.napis, ifindex), ())
            queues = attempt(partial(netdev.queues, ifindex), ())
            xdp_features = attempt(partial(netdev.xdp_features, ifindex), None)
        numbers = {n.irq for n in napis if n.irq is not None} | {*irq.of_device(base.interface)}
        return State(
            interface=base.interface,
            ifindex=ifindex,
            netns=link.netns(),
            up=base.up,
            carrier=base.carrier,
            mtu=base.mtu,
            addresses=attempt(partial(link.addresses, self._rtnetlink, ifindex), ()),
            driver=driver,
            firmware=firmware,
            bus=bus,
            numa_node=link.numa_node(base.interface),
            xdp_program=base.xdp_program,
            xdp_features=xdp_features,
            channels=attempt(partial(ethtool.channels, ifindex), None),
            rings=attempt(partial(ethtool.rings, ifindex), None),
            features=attempt(partial(ethtool.features, ifindex), {}),
            private_flags=attempt(partial(ethtool.private_flags, ifindex), {}),
            rss=attempt(partial(ethtool.rss, ifindex), ()),
            rules=rules,
            rule_slots=slots,
            queues=queues,
            napis=napis,
            irqs=irq.read(numbers),
            unread=tuple(unread),
        )


def read(interface: str | int) -> State:
    """The state of a NIC. interface: its name, an alternative name, or its index.

    Raises NoSuchInterface.
    """
    with Reader() as reader:
        return reader.state(interface)

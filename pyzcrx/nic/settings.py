"""A NIC's single settings: read, changed, and as the equal command.

A setting is named by a key: ``tcp-data-split``, ``hds-thresh``, ``rx-ring``, ``rss``,
``feature:NAME``, ``private-flag:NAME``, ``irq:NUMBER``, ``napi:QUEUE:NAME``. Its value is
plain, so that a journal can hold it.
"""

from __future__ import annotations

import errno
import re
from functools import reduce
from math import gcd
from typing import Any

from pyzcrx._common.checked import integer
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.errors import BadArgument
from pyzcrx.nic import irq
from pyzcrx.nic.read import Reader
from pyzcrx.nic.tables import TcpDataSplit

Value = Any
"""True, False, a number, a text, a list of numbers, or None: as the kernel likes."""

_SPLIT = {
    "auto": TcpDataSplit.UNKNOWN,
    "off": TcpDataSplit.DISABLED,
    "on": TcpDataSplit.ENABLED,
}
NAPI_FIELDS = {
    "defer-hard-irqs": "defer_hard_irqs",
    "gro-flush-timeout": "gro_flush_timeout_ns",
    "irq-suspend-timeout": "irq_suspend_timeout_ns",
    "threaded": "threaded",
}
_MINUTE_NS = 60 * 10**9
_NAPI_MOST = {
    # Documentation/netlink/specs/netdev.yaml; of times the kernel takes any.
    "defer-hard-irqs": (1 << 31) - 1,
    "gro-flush-timeout": _MINUTE_NS,
    "irq-suspend-timeout": _MINUTE_NS,
    "threaded": 2,
}


def check_napi(name: str, value: int) -> int:
    """The value of a setting of NAPI instances. Raises BadArgument for what cannot be meant."""
    if name not in NAPI_FIELDS:
        raise BadArgument(f"no NAPI setting is called {name}; there are {', '.join(NAPI_FIELDS)}")
    return integer(name, value, 0, _NAPI_MOST[name])


def napi_setting(text: str) -> tuple[str, int]:
    """Name and value of ``NAME=NUMBER``. Raises BadArgument."""
    found = re.fullmatch(r"([a-z-]+)=([0-9]{1,30})", text)
    if found is None:
        raise BadArgument(f"{text!r} is not NAME=NUMBER")
    return found[1], check_napi(found[1], int(found[2]))


def current(kernel: Reader, ifindex: int, key: str) -> Value:
    """The value as it can be read now; None where the NIC has no such setting."""
    match key.split(":"):
        case ["tcp-data-split"]:
            rings = kernel._ethtool.rings(ifindex)
            if rings is None or rings.tcp_data_split is None:
                return None
            return "on" if rings.tcp_data_split else "off"
        case ["hds-thresh"]:
            rings = kernel._ethtool.rings(ifindex)
            return rings and rings.hds_thresh
        case ["rx-ring"]:
            rings = kernel._ethtool.rings(ifindex)
            return rings and rings.rx
        case ["rss"]:
            contexts = kernel._ethtool.rss(ifindex)
            return list(contexts[0].table) if contexts else None
        case ["feature", name]:
            return kernel._ethtool.features(ifindex).get(name)
        case ["private-flag", name]:
            return kernel._ethtool.private_flags(ifindex).get(name)
        case ["irq", number]:
            found = irq.read([int(number)])
            return found[0].cpus if found else None
        case ["napi", queue, name]:
            napi = _napi(kernel, ifindex, int(queue))
            return getattr(napi, NAPI_FIELDS[name])
    raise BadArgument(f"no setting is called {key!r}")


def change(kernel: Reader, ifindex: int, key: str, value: Value) -> bool:
    """Give it that value; whether the kernel had anything to change, as far as it says.

    Raises the KernelError of the errno.
    """
    match key.split(":"):
        case ["tcp-data-split"]:
            return kernel._ethtool.set_rings(ifindex, tcp_data_split=_SPLIT[value])
        case ["hds-thresh"]:
            return kernel._ethtool.set_rings(ifindex, hds_thresh=value)
        case ["rx-ring"]:
            return kernel._ethtool.set_rings(ifindex, rx=value)
        case ["rss"]:
            kernel._ethtool.set_rss_table(ifindex, value or ())
        case ["feature", name]:
            kernel._ethtool.set_features(ifindex, {name: value})
        case ["private-flag", name]:
            kernel._ethtool.set_private_flags(ifindex, {name: value})
        case ["irq", number]:
            irq.set_affinity(int(number), value)
        case ["napi", queue, name]:
            napi = _napi(kernel, ifindex, int(queue))
            assert kernel._netdev is not None
            kernel._netdev.set_napi(napi.id, **{NAPI_FIELDS[name]: value})
        case _:
            raise BadArgument(f"no setting is called {key!r}")
    return True


def _napi(kernel: Reader, ifindex: int, queue: int) -> Any:
    if kernel._netdev is not None:
        napi_id = kernel._netdev.queue(ifindex, queue).napi_id
        for napi in kernel._netdev.napis(ifindex):
            if napi.id == napi_id:
                return napi
    raise kernel_error(errno.ENOENT, "set NAPI", f"interface {ifindex}, queue {queue}")


def command(interface: str, key: str, value: Value) -> str:
    """The equal command line of a stock tool. RSS: the same shares, in another order."""
    match key.split(":"):
        case ["tcp-data-split" | "hds-thresh" as name]:
            return f"ethtool -G {interface} {name} {value}"
        case ["rx-ring"]:
            return f"ethtool -G {interface} rx {value}"
        case ["rss"]:
            return f"ethtool -X {interface} {spread(value)}"
        case ["feature", "rx-ntuple-filter"]:
            return f"ethtool -K {interface} ntuple {on_off(value)}"
        case ["feature", name]:
            return f"ethtool -K {interface} {name} {on_off(value)}"
        case ["private-flag", name]:
            return f"ethtool --set-priv-flags {interface} {name} {on_off(value)}"
        case ["irq", number]:
            return f"echo {value} > /proc/irq/{number}/smp_affinity_list"
        case ["napi", queue, name]:
            return (
                f"ynl --family netdev --do napi-set "
                f'--json \'{{"id": NAPI_OF_{interface}_QUEUE_{queue}, "{name}": {value}}}\''
            )
    raise BadArgument(f"no setting is called {key!r}")


def check(key: str, *values: Value) -> None:
    """Raises BadArgument for a key of no setting, and for a value that its setting never has."""
    kind, *rest = key.split(":")
    match kind, rest:
        case "tcp-data-split", []:
            fit = all(isinstance(value, str) and value in _SPLIT for value in values)
        case "hds-thresh" | "rx-ring", []:
            fit = all(value is None or _is_number(value, 32) for value in values)
        case "rss", []:
            fit = all(value is None or _is_table(value) for value in values)
        case "feature" | "private-flag", [_]:
            fit = all(isinstance(value, bool) for value in values)
        case "irq", [number] if _is_place(number):
            fit = all(isinstance(value, str) and bool(irq.parse_cpus(value)) for value in values)
        case "napi", [queue, name] if _is_place(queue) and name in NAPI_FIELDS:
            fit = all(_is_number(value, 64) for value in values)
        case _:
            raise BadArgument(f"no setting is called {key!r}")
    if not fit:
        raise BadArgument(f"{key} cannot be what the journal has for it")


def _is_number(value: Value, bits: int) -> bool:
    return type(value) is int and 0 <= value < 1 << bits


def _is_table(value: Value) -> bool:
    return isinstance(value, list) and all(_is_number(queue, 32) for queue in value)


def _is_place(text: str) -> bool:
    """Whether it is the number of an interrupt or a queue."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def is_interrupt(key: str) -> bool:
    """Whether it is the CPUs of an interrupt."""
    return key.startswith("irq:")


def on_off(value: bool) -> str:
    """In the words of ``ethtool``."""
    return "on" if value else "off"


def spread(table: list[int] | None) -> str:
    """A table's shares in the words of ``ethtool -X``."""
    if not table:
        return "default"
    weights = [table.count(queue) for queue in range(max(table) + 1)]
    divisor = reduce(gcd, weights)
    return "weight " + " ".join(str(weight // divisor) for weight in weights)

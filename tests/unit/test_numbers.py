"""Every number of the public interface, found by its signature, with values that are none.

A parameter that is new is tested by itself, once it is annotated; what it belongs to must be
had from :class:`World`, and what else the call needs from :func:`arguments`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pyzcrx
from pyzcrx import nic, placement, testing
from pyzcrx._common import checked
from pyzcrx._kernel.memory import PAGE
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send
from pyzcrx.types import Stream
from tests.unit.nic.cards import card

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")

NEVER = [math.nan, math.inf, -math.inf, -1, -(2**40), True, False, "1", b"1", [], object()]
"""What no parameter takes for a number."""
NO_INTS = [*NEVER, 1.5, 1.0, np.float64(1)]
LARGE = [2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64, 2**200]

PLUMBING = {
    "Flow": {"matches"},  # with what the kernel says
    "Batch": {"buffer", "view"},  # of a sequence: IndexError, TypeError
}
"""Methods that are not for users: what is wrong with their numbers is not told so kindly."""
BY_OTHERS = {
    *(pyzcrx.Ifq, pyzcrx.Request, Stream, Accept, Send, pyzcrx.Batch, pyzcrx.Buffer),
    *(pyzcrx.Data, pyzcrx.Run, nic.Reader, testing.ModelSocket, testing.ModelListener),
}
"""Classes that users do not make."""
NOT_ASKED = {("Setup", "own"), ("plan", "own"), ("choose", "softirq"), ("choose", "allowed")}
"""Sets of numbers to compare with."""
MINUS_ONE_IS_NONE = {("Area", "fd"), ("Stream", "n"), ("Stream", "size"), ("Stream", "hint")}


def str_of(value: Any) -> str:
    return type(value).__name__


def is_record(kind: type) -> bool:
    """Plain data: what somebody found out."""
    return dataclasses.is_dataclass(kind) and not hasattr(kind, "__post_init__")


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [
        name
        for name, found in vars(module).items()
        if name[0] != "_" and getattr(found, "__module__", None) == module.__name__
    ]
    for name in names:
        yield name, getattr(module, name)


def everything() -> Iterator[tuple[str, Any]]:
    """What is public by its module, and the classes of objects that public methods return."""
    for module in (pyzcrx, nic, testing, placement):
        yield from public(module)
    for kind in (Accept, Send, RefillQueue):
        yield kind.__name__, kind


def functions() -> Iterator[tuple[str, str | None, Callable[..., Any]]]:
    """(owner, method or None, function) of everything public."""
    for name, found in everything():
        if inspect.isclass(found):
            if issubclass(found, BaseException):
                continue
            if is_record(found):
                continue
            if found not in BY_OTHERS and "__init__" in vars(found):
                yield name, None, found
            for method, function in inspect.getmembers(found, callable):
                if method[0] != "_" and method not in PLUMBING.get(name, ()):
                    yield name, method, function
        elif callable(found):
            yield name, None, found


def numbers() -> Iterator[Any]:
    for owner, method, function in functions():
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue  # of C, or an alias of types
        for parameter in signature.parameters.values():
            kind = str(parameter.annotation)
            if re.search(r"\b(int|float)\b", kind) and (owner, parameter.name) not in NOT_ASKED:
                label = ".".join(filter(None, (owner, method, parameter.name)))
                yield pytest.param(owner, method, parameter.name, kind, id=label)


def named(name: str) -> Any:
    return next(found for known, found in everything() if known == name)


class World(ExitStack):
    """A ring on the kernel in memory, and one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.enter_context(testing.ModelKernel())
        self.sock = self.kernel.socket()
        self.listener = self.kernel.listen()
        self.Ring = self.enter_context(pyzcrx.Ring(sq_entries=8, cq_entries=8))
        self.area = self.enter_context(pyzcrx.Area.anonymous(8 * PAGE))
        self.mapping = self.area._mapping

    def owner(self, name: str) -> Any:
        match name:
            case "Ifq":
                return self.Ring.register_ifq(self.area, rq_entries=8)
            case "Stream":
                self.sock.finish()
                return self.owner("Ifq").stream(self.sock, timeout=0)
            case "Request":
                request = self.owner("Ifq").receive(self.sock, limit=1)
                self.sock.send(b"x")
                for event in self.Ring.events(0):
                    if isinstance(event, pyzcrx.Data):
                        event.buffer.release()
                assert request.over
                return request
            case "ModelSocket":
                return self.sock
            case "ModelListener":
                return self.listener
            case "ModelKernel":
                return self.kernel
            case "Ring":
                return self.Ring
            case "Setup":
                setup = nic.Setup.__new__(nic.Setup)  # of no NIC
                setup._closed = True
                setup.plan = nic.plan(card(), nic.Wanted())
                return setup
            case "Tally":
                return placement.Tally()
            case "Reader":
                return self.enter_context(nic.Reader())
        return named(name)  # its class methods

    def arguments(self, owner: str) -> dict[str, Any]:
        """Good ones, by name."""
        return {
            "address": ("127.0.0.1", 9),
            "area": pyzcrx.Area.anonymous(PAGE),
            "allowed": {0},
            "data": [b"x"],
            "fd": 0,
            "memory": bytearray(),
            "cpus": {0},
            "flow": "tcp4 dst 192.0.2.1:9",
            "flows": (),
            "interface": "eth-none",
            "listener": self.listener,
            "mapping": self.mapping,
            "mode": 0,
            "policy": "copy",
            "port": 1,
            "size_bytes": PAGE,
            "sock": self.sock,
            "softirq": {0},
            "state": card(),
            "wanted": nic.Wanted(),
            "busy_poll_us": 0,
            "entries": 8,
            "head": 0,
            "tail": 4,
            "rqes": 64,
        } | ({"rx_queue": 0} if owner == "Ring" else {})


def wrapped(kind: str, value: Any) -> Any:
    """As the annotation has it."""
    if "tuple[str, int]" in kind:
        return ("127.0.0.1", value)
    if "dict[str, int]" in kind:
        return {"gro-flush-timeout": value}
    if re.search(r"\b(Iterable|Sequence|Set)\[int\]", kind):
        return _OneOf(value)
    return value


class _OneOf(list[Any]):
    """A list that may stand for a set of what has no hash."""

    def __init__(self, value: Any) -> None:
        super().__init__([value])


def outcome(owner: str, method: str | None, parameter: str, value: Any) -> str:
    with World() as world:
        function = getattr(world.owner(owner), method) if method else named(owner)
        given = {}
        for name, wanted in inspect.signature(function).parameters.items():
            if name in world.arguments(owner) and wanted.default is wanted.empty:
                given[name] = world.arguments(owner)[name]
        if (owner, method, parameter) == ("Ring", "register_ifq", "rx_queue"):
            given["interface"] = "lo"
        if (owner, method, parameter) == ("Ring", "register_ifq", "interface"):
            given["rx_queue"] = 0
        if owner == "relay":
            given |= {"ring": world.Ring, "ifq": world.owner("Ifq"), "until": lambda: True}
        given[parameter] = value
        try:
            positional = [
                given.pop(name)
                for name, wanted in inspect.signature(function).parameters.items()
                if wanted.kind is wanted.POSITIONAL_ONLY and name in given
            ]
            flows = given.pop("flows", ()) if method is None and owner == "prepare" else ()
            result = function(*positional, *flows, **given)
            if hasattr(result, "__enter__") and owner == "pinned":
                with result:
                    pass
            elif hasattr(result, "close"):
                result.close()
        except pyzcrx.ZcrxError as error:
            one_line = "\n" not in str(error)
            return type(error).__name__ if one_line else f"lines: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "a value"


@pytest.mark.parametrize(("owner", "method", "parameter", "kind"), list(numbers()))
def test_what_is_no_number_is_a_bad_argument(
    owner: str, method: str | None, parameter: str, kind: str
) -> None:
    values = list(NEVER if "float" in kind else NO_INTS)
    if not re.search(r"\bNone\b", kind):
        values.append(None)
    if re.search(r"\bstr\b", kind) and "dict" not in kind:
        values.remove("1")
    if "bytes" in kind:
        values.remove(b"1")
    if (owner, parameter) in MINUS_ONE_IS_NONE and method != "readexactly":
        values.remove(-1)
    found = {
        repr(value): outcome(owner, method, parameter, wrapped(kind, value)) for value in values
    }
    assert found == dict.fromkeys(found, "BadArgument")


@pytest.mark.parametrize(("owner", "method", "parameter", "kind"), list(numbers()))
def test_a_large_number_is_taken_or_a_typed_error(
    owner: str, method: str | None, parameter: str, kind: str
) -> None:
    for value in LARGE:
        found = outcome(owner, method, parameter, wrapped(kind, value))
        assert ":" not in found, f"{value}: {found}"
        if value > 2**64:
            assert found == "BadArgument"


def test_the_public_interface_has_numbers() -> None:
    names = {case.id for case in numbers()}
    assert len(names) > 60
    assert {
        "Area.anonymous.size_bytes",
        "Flow.dst_port",
        "Ifq.holders.most",
        "Ifq.receive.limit",
        "Ifq.receive.sock",
        "ModelKernel.takes",
        "Pressure.limit_bytes",
        "Request.resume.limit",
        "Ring.accept.listener",
        "Ring.batches.timeout",
        "Ring.events.timeout",
        "Ring.gather_us",
        "Ring.register_ifq.timeout",
        "Ring.register_napi.napi_ids",
        "Ring.send.sock",
        "Ring.wait.timeout",
        "area_advice.mtu",
        "drop_urgent.sock",
        "incoming.sock",
        "prepare.napi",
        "restore.interface",
    } <= names


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.uint64])
def test_numbers_of_numpy(kind: Any) -> None:
    with (
        testing.ModelKernel() as kernel,
        pyzcrx.Ring(sq_entries=kind(8), gather_us=kind(9)) as ring,
    ):
        size: Any = np.int64(2 * PAGE)
        area = pyzcrx.Area.anonymous(size)
        ifq = ring.register_ifq(area, rq_entries=kind(8), rx_buf_len=kind(0), timeout=kind(1))
        sock = kernel.socket()
        sock.send(b"123")
        fd: Any = np.int64(sock.fileno())
        request = ifq.receive(fd, limit=kind(2))
        at_once: Any = np.float32(0)
        (data, limit) = ring.events(at_once)
        assert isinstance(data, pyzcrx.Data)
        assert (bytes(data.buffer), limit) == (b"12", pyzcrx.Limit(request))
        assert [len(ifq.holders(kind(n))) for n in (0, 5)] == [0, 1]
        data.buffer.release()
    area.close()
    assert pyzcrx.area_advice(mtu=kind(100)) == pyzcrx.area_advice(mtu=100)
    assert checked.integer("x", kind(3), 0, 9) == 3


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 3, np.float64(2), np.int16(2), checked.MOST_S])
def test_numbers_of_seconds(value: Any) -> None:
    assert checked.seconds("timeout", value) == value


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -0.1, 1e300, 10**5000, 1j, "1", None, True], ids=str_of
)
def test_what_is_no_number_of_seconds(value: Any) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="timeout"):
        checked.seconds("timeout", value)


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=str_of)
def test_a_number_too_long_to_print(value: int) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match="is not between"):
        checked.integer("n", value, 0, 9)

"""Every number of pyzcrx.aio, found by its signature, with values that are none."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import pyzcrx
from pyzcrx import aio
from pyzcrx._kernel.memory import PAGE
from pyzcrx.aio.reader import StreamReader
from pyzcrx.errors import BadArgument
from pyzcrx.testing import ModelKernel
from tests.unit.test_numbers import NEVER, NO_INTS

NOT_OURS = {"port"}
"""asyncio's, which says itself what is wrong with it."""
ANY_NEGATIVE = {("read", "n")}
"""As asyncio has it: all to the end."""
CALLS = (
    *(aio.EventLoop, aio.start_server, aio.open_connection),
    *(StreamReader.read, StreamReader.readexactly),
)


def numbers() -> Iterator[Any]:
    for function in CALLS:
        for parameter in inspect.signature(function).parameters.values():
            kind = str(parameter.annotation)
            if re.search(r"\b(int|float)\b", kind) and parameter.name not in NOT_OURS:
                label = f"{function.__name__}.{parameter.name}"
                yield pytest.param(function, parameter.name, kind, id=label)


def call(function: Callable[..., Any], parameter: str, value: Any) -> Any:
    if function is aio.EventLoop:
        given: dict[str, Any] = {"interface": "lo"} if parameter == "rx_queue" else {}
        return function(**given | {parameter: value})
    with (
        ModelKernel() as kernel,
        pyzcrx.Ring(sq_entries=8, cq_entries=8) as ring,
        pyzcrx.Area.anonymous(8 * PAGE) as area,
    ):
        ifq = ring.register_ifq(area, rq_entries=8)

        async def main() -> None:
            if function not in (aio.start_server, aio.open_connection):
                sock = kernel.socket()
                sock.finish()
                reading = ifq._reading(sock.fileno(), None)
                reader = StreamReader(cast("Any", None), reading, 1)
                reader._closed = True  # it waits for nothing
                await function(reader, value)
            elif function is aio.start_server:
                await aio.start_server(lambda *_: None, ifq=ifq, **{parameter: value})
            else:
                await aio.open_connection(ifq=ifq, **{parameter: value})

        return asyncio.run(main())


def outcome(function: Callable[..., Any], parameter: str, value: Any) -> str:
    try:
        made = call(function, parameter, value)
    except BadArgument as error:
        return "BadArgument" if "\n" not in str(error) else f"lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if made is not None:
        made.close()
    return "a value"


@pytest.mark.parametrize(("function", "parameter", "kind"), list(numbers()))
def test_what_is_no_number_is_a_bad_argument(
    function: Callable[..., Any], parameter: str, kind: str
) -> None:
    values = list(NEVER if "float" in kind else NO_INTS)
    if not re.search(r"\bNone\b", kind):
        values.append(None)
    if re.search(r"\bstr\b", kind):
        values.remove("1")
    if (function.__name__, parameter) in ANY_NEGATIVE:
        values = [value for value in values if value not in (-1, -(2**40))]
    found = {repr(value): outcome(function, parameter, value) for value in values}
    assert found == dict.fromkeys(found, "BadArgument")


@pytest.mark.parametrize(("function", "parameter", "kind"), list(numbers()))
def test_a_number_that_no_kernel_takes_is_refused(
    function: Callable[..., Any], parameter: str, kind: str
) -> None:
    assert outcome(function, parameter, 2**200) == "BadArgument", kind


def test_every_number_is_among_them() -> None:
    names = {case.id for case in numbers()}
    assert {"EventLoop.interface", "EventLoop.rx_queue", "start_server.limit", "read.n"} <= names

"""CPython's own tests of asyncio, on our event loop.

    python cpython.py MODULE [NAME...]

Prints one line of JSON: how many ran, how many were skipped, and the names of those that
failed. Debian's libpython3-testsuite has the tests. What they take for asyncio's loop is ours;
a NAME chooses tests. PLACE in the environment, as JSON: the NIC of the loop.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import json
import os
import selectors
import socket
import sys
import unittest
from collections.abc import Iterator
from typing import Any

from pyzcrx.aio import EventLoop, RingSelector

TIME_LIMIT_S = 500
PATIENCE = 10
"""Times the limits of these tests' sockets: test_server gives an answer 2 s on any machine."""
PLACE: dict[str, Any] = json.loads(os.environ.get("PLACE", "{}"))


class Loop(EventLoop):
    """Ours, made as the tests make asyncio's."""

    def __init__(self, selector: Any = None) -> None:
        if selector is not None and not isinstance(selector, RingSelector):
            raise unittest.SkipTest("a selector that is not the ring")
        super().__init__(area_bytes=8 << 20, **PLACE)


def take_the_place() -> None:
    """What the tests find where asyncio keeps its loop is ours."""
    places: Any = selectors
    places.DefaultSelector = places.EpollSelector = RingSelector
    unix: Any = asyncio.unix_events
    asyncio.SelectorEventLoop = unix.SelectorEventLoop = unix._UnixSelectorEventLoop = Loop
    unix._UnixDefaultEventLoopPolicy._loop_factory = Loop
    sockets: Any = socket.socket
    settimeout = sockets.settimeout
    sockets.settimeout = lambda sock, limit: settimeout(
        sock, PATIENCE * limit if limit and limit >= 1 else limit
    )


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_of(each)
        else:
            yield each


def main(module: str, *names: str) -> None:
    faulthandler.dump_traceback_later(TIME_LIMIT_S, exit=True)
    take_the_place()
    found = tests_of(unittest.defaultTestLoader.loadTestsFromName(module))
    chosen = [test for test in found if not names or any(name in test.id() for name in names)]
    said = io.StringIO()
    runner = unittest.TextTestRunner(stream=said, verbosity=2, warnings="ignore")
    result = runner.run(unittest.TestSuite(chosen))
    failed = sorted({test.id() for test, _ in (*result.failures, *result.errors)})
    if failed:
        print(said.getvalue(), file=sys.stderr)
    figures = {"ran": result.testsRun, "skipped": len(result.skipped), "failed": failed}
    print(json.dumps(figures), flush=True)
    os._exit(0)  # what the tests leave behind is not ours to wait for


if __name__ == "__main__":
    main(*sys.argv[1:])

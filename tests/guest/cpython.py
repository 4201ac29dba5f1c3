"""CPython's own tests of asyncio, on our event loop.

    python cpython.py MODULE [NAME...]

Prints one line of JSON: how many ran, how many were skipped, the names of those that failed, and
for how many seconds the process stood still in each that failed the first time. Debian's
libpython3-testsuite has the tests. What they take for asyncio's loop is ours; a NAME chooses
tests. PLACE in the environment, as JSON: the NIC of the loop.

Some have limits of their own, such as a second. One that fails while the machine stood still, as
others' load makes it, is run again.
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
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any

from pyzcrx.aio import EventLoop, RingSelector

TIME_LIMIT_S = 500
PATIENCE = 10
"""Times the limits of these tests' sockets: test_server gives an answer 2 s on any machine."""
STILL_S = 0.2
"""For so long no thread ran: the limits of a test that failed meanwhile say nothing."""
TIMES = 3
"""At most so often a test is run."""
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
    if hasattr(unix, "EventLoop"):  # 3.13
        module: Any = asyncio
        module.EventLoop = unix.EventLoop = Loop
    sockets: Any = socket.socket
    settimeout = sockets.settimeout
    sockets.settimeout = lambda sock, limit: settimeout(
        sock, PATIENCE * limit if limit and limit >= 1 else limit
    )


class Watch(threading.Thread):
    """Notes for how long no thread of this process ran."""

    _STEP_S = 0.02

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.still_s = 0.0
        self.start()

    def run(self) -> None:
        while True:
            began_s = time.monotonic()
            time.sleep(self._STEP_S)
            self.still_s = max(self.still_s, time.monotonic() - began_s - self._STEP_S)


class Result(unittest.TextTestResult):
    """And for how long that was during each test."""

    def __init__(self, *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        self._watch = Watch()
        self.still_s: dict[str, float] = {}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # as unittest has it
        self._watch.still_s = 0.0
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.still_s[test.id()] = self._watch.still_s
        super().stopTest(test)

    @property
    def failed(self) -> set[str]:
        return {test.id() for test, _ in (*self.failures, *self.errors)}


def run(tests: list[unittest.TestCase], stream: io.StringIO) -> Result:
    runner: Any = unittest.TextTestRunner(
        stream=stream, verbosity=2, warnings="ignore", resultclass=Result
    )
    result: Result = runner.run(unittest.TestSuite(tests))
    return result


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
    first = result = run(chosen, said)
    failed = first.failed
    for _ in range(TIMES - 1):
        still = {name for name in failed if result.still_s.get(name, 0) >= STILL_S}
        if still:
            result = run([test for test in chosen if test.id() in still], said)
            failed = failed - still | result.failed
    if failed:
        print(said.getvalue(), file=sys.stderr)
    figures = {
        "ran": first.testsRun,
        "skipped": len(first.skipped),
        "failed": sorted(failed),
        "still_s": {name: first.still_s.get(name) for name in sorted(first.failed)},
    }
    print(json.dumps(figures), flush=True)
    os._exit(0)  # what the tests leave behind is not ours to wait for


if __name__ == "__main__":
    main(*sys.argv[1:])

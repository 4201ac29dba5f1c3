"""CPython's own test suite of asyncio, unmodified, on our event loop: no failure of its own.

Its connections are local. A loop that has a NIC receives those as asyncio does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.card import CARD
from tests.long import LONG

SHORT = ("streams", "sock_lowlevel", "server", "buffered_proto", "sendfile", "sslproto")
LONGER = (
    "events",
    "base_events",
    "selector_events",
    "unix_events",
    "subprocess",
    "ssl",
    "pep492",
    "runners",
    "threads",
    "tasks",
    "timeouts",
    "waitfor",
    "taskgroups",
    "queues",
    "locks",
)
DEVIATIONS: dict[str, str] = {}
"""Tests that our loop does not pass, and why. The guide for asyncio shows the same table."""


@pytest.mark.parametrize("name", SHORT + (LONGER if LONG else ()))
def test_module(name: str) -> None:
    module = f"test.test_asyncio.test_{name}"
    script = str(Path(__file__).with_name("cpython.py"))
    environment = os.environ | {"PLACE": json.dumps(CARD.register)}
    done = subprocess.run(
        [sys.executable, script, module], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    print(name, figures)
    assert figures["ran"] > figures["skipped"]
    unknown = [test for test in figures["failed"] if test not in DEVIATIONS]
    assert not unknown, done.stderr[-20_000:]

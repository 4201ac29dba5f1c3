"""What a connection takes of a process's memory, beside the area (tests/perf/footprint.py).

As a ratio to a connection of asyncio's streams, so that it repeats itself on one build of Python.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vm import external

PROGRAM = Path(__file__).parent.parent / "tests" / "perf" / "footprint.py"
UNIT = "asyncio"
HELD = "bytes a connection, here"


def sizes() -> dict[str, float]:
    """Bytes of a request, of a stream, and of a connection of asyncio's streams."""
    argv = [sys.executable, "-P", "-W", "ignore", str(PROGRAM)]
    hashed = os.environ | {"PYTHONHASHSEED": "0"}
    return external.report_of("counting a connection's bytes", argv, env=hashed)


def ratios() -> dict[str, float]:
    """Each in those of asyncio's."""
    told = sizes()
    return {f"{HELD}, a {name} of {UNIT}": told[name] / told[UNIT] for name in told if name != UNIT}

"""What a connection takes of a process's memory, beside the area (tests/perf/footprint.py).

As a ratio to a connection of asyncio's streams, so that it repeats itself on one build of Python.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from vm import external
from vm.errors import VmError

PROGRAM = Path(__file__).parent.parent / "tests" / "perf" / "footprint.py"
UNIT = "asyncio"
HELD = "bytes a connection, here"


def sizes() -> dict[str, float]:
    """Bytes of a request, of a stream, and of a connection of asyncio's streams."""
    argv = [sys.executable, "-P", "-W", "ignore", str(PROGRAM)]
    done = external.run(argv, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "0"})
    if done.returncode:
        said = (done.stderr.decode().strip() or "no word of it").splitlines()[-1]
        raise VmError(f"counting a connection's bytes ended with {done.returncode}: {said}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def ratios() -> dict[str, float]:
    """Each in those of asyncio's."""
    told = sizes()
    return {f"{HELD}, a {name} of {UNIT}": told[name] / told[UNIT] for name in told if name != UNIT}

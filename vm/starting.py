"""What a start costs: importing pyzcrx, and each command up to its help, as instructions.

Counted by valgrind on this machine, as a ratio to ``import asyncio``, without what the bare
interpreter takes. So the ratio repeats itself, on one build of Python.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distribution

from vm import external
from vm.errors import VmError

UNIT = "asyncio"
START = "instructions to start, here"
_COLLECTED = re.compile(r"Collected : (\d+)")


def programs() -> Iterator[tuple[str, str]]:
    """What is started, and the Python that does it; every command of the package."""
    yield "import pyzcrx", "import pyzcrx"
    for script in distribution("pyzcrx").entry_points.select(group="console_scripts"):
        code = (
            f"from {script.module} import {script.attr}; {script.attr}(['--help'], '{script.name}')"
        )
        yield f"{script.name} --help", code


def instructions(code: str) -> int:
    """Of a Python that runs *code*."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise VmError("instructions are counted by valgrind, which is not installed")
    done = external.run(
        [
            valgrind,
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            sys.executable,
            "-P",
            "-c",
            code,
        ],
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    said = done.stderr.decode(errors="replace")
    found = _COLLECTED.search(said)
    if done.returncode or found is None:
        last = (said.strip() or "no word of it").splitlines()[-1]
        raise VmError(f"valgrind ended with {done.returncode}: {last}")
    return int(found[1])


def ratios() -> dict[str, float]:
    """Each start in those of ``import asyncio``."""
    bare = instructions("pass")
    unit = instructions(f"import {UNIT}") - bare
    return {
        f"{START}, {name} of import {UNIT}": (instructions(code) - bare) / unit
        for name, code in programs()
    }

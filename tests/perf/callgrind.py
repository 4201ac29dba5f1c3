"""Instructions a buffer, counted by valgrind's callgrind: in the shim, in Python, in all.

One run of one process: :func:`_child` marks where a way begins and ends by a call that
nobody else makes, at which callgrind writes out what it counted since the last one. The
kernel's instructions are not seen.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyzcrx.bench.plan import MIB, BenchError

# At the end of the path: pyzcrx itself comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.perf import ways
from tests.perf.ways import WAYS, Work

mark: Any = os.getppid
"""What nobody else calls."""
_WARM = 1
_TIMEOUT_S = 600
_NAME = re.compile(r"\((\d+)\)(?: (.*))?")

PARTS = ("shim", "cffi", "python", "other")
"""The shim (both modules and liburing), cffi's own, the interpreter, libc and the like."""


@dataclass(frozen=True)
class Counts:
    """Instructions of one way; *by_function* of (object, function)."""

    by_function: Counter[tuple[str, str]]
    buffers: int
    size_bytes: int

    def as_dict(self) -> dict[str, float]:
        """A buffer's, by part and in total; and a MiB's."""
        parts = dict.fromkeys(PARTS, 0)
        for (binary, _), n in self.by_function.items():
            parts[part_of(binary)] += n
        total = sum(parts.values())
        return {part: n / self.buffers for part, n in parts.items()} | {
            "total": total / self.buffers,
            "total_per_mib": total * MIB / self.size_bytes,
        }

    def functions(self, most: int = 20) -> Iterator[str]:
        """Where most are, whoever called them."""
        found: Counter[tuple[str, str]] = Counter()
        for (binary, name), n in self.by_function.items():
            found[binary, name.partition("'")[0]] += n
        for (binary, function), n in found.most_common(most):
            yield f"{n / self.buffers:9.1f}  {function} ({Path(binary).name})"


def part_of(binary: str) -> str:
    """Which of :data:`PARTS` the functions of a file are."""
    name = Path(binary).name
    if name.startswith(("_zcrx.", "_lease.")):
        return "shim"
    if name.startswith("_cffi_backend"):
        return "cffi"
    return "python" if "python" in name else "other"


def parse(text: str) -> Counter[tuple[str, str]]:
    """Instructions by (object, function) of one file that callgrind wrote, callees apart."""
    names: dict[tuple[str, str], str] = {}
    where = {"ob": "", "fn": ""}
    found: Counter[tuple[str, str]] = Counter()
    callee = False
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key in ("ob", "fn", "cob", "cfn"):
            kind = key[-2:]
            if (match := _NAME.fullmatch(value)) is not None:
                number, name = match.groups()
                if name is not None:
                    names[kind, number] = name
                value = names[kind, number]
            if key in where:
                where[key] = value
        elif key == "calls":
            callee = True  # the next line is what was spent in there
        elif line and line[0] in "0123456789+-*":
            if not callee:
                found[where["ob"], where["fn"]] += int(line.split()[1])
            callee = False
    return found


def program() -> str:
    """valgrind's path. Raises BenchError where it is not installed."""
    found = shutil.which("valgrind")
    if found is None:
        raise BenchError("instructions are counted by valgrind, which is not installed")
    return found


def count(
    per_turn: int, lengths: Sequence[int], connections: int = 1, *, options: Sequence[str] = ()
) -> dict[str, Counts]:
    """Every way of :data:`tests.perf.ways.WAYS`, in turns of so many."""
    said, parts = counted(
        __file__, str(per_turn), json.dumps(list(lengths)), str(connections), options=options
    )
    buffers, size_bytes = json.loads(said)
    return {
        name: Counts(found, buffers, size_bytes)
        for name, found in zip(WAYS, parts[1::2], strict=True)
    }


def counted(
    script: str, *arguments: str, options: Sequence[str] = ()
) -> tuple[str, list[Counter[tuple[str, str]]]]:
    """What *script* prints, and the instructions up to each call of :func:`mark` and to its end.

    *options*: more of callgrind's.
    """
    valgrind = program()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        try:
            done = subprocess.run(
                [
                    valgrind,
                    "--tool=callgrind",
                    f"--callgrind-out-file={out}",
                    f"--dump-before={mark.__name__}",
                    *options,
                    sys.executable,
                    "-P",
                    script,
                    *arguments,
                ],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
                env=os.environ | {"PYTHONHASHSEED": "0"},
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"valgrind did not end within {_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            last = (done.stderr.strip() or "no word of it").splitlines()[-1]
            raise BenchError(f"valgrind ended with {done.returncode}: {last}")
        numbers = sorted(int(path.suffix[1:]) for path in Path(folder).glob("out.*"))
        return done.stdout, [parse(Path(f"{out}.{n}").read_text()) for n in numbers]


def table(
    per_turn: str, counted: dict[str, dict[str, float]], goals: dict[str, float]
) -> Iterator[str]:
    """A line a way."""
    unit = counted[ways.UNIT]["total"]
    yield f"instructions a buffer, in turns of {per_turn}; user space only"
    yield f"{'':17} " + "".join(f"{part:>9}" for part in (*PARTS, "total", "slices", "k/MiB"))
    for name, counts in counted.items():
        yield (
            f"{name:17} "
            + "".join(f"{counts[part]:9.1f}" for part in (*PARTS, "total"))
            + f"{counts['total'] / unit:9.2f}{counts['total_per_mib'] / 1000:9.1f}"
            + (f"   goal {goals[name]}" if name in goals else "")
        )


def _between_marks(function: Callable[[], None]) -> int:
    mark()
    function()
    mark()
    return 0


def _unmarked(function: Callable[[], None]) -> int:
    function()
    return 0


def _child(per_turn: int, lengths: Sequence[int], connections: int) -> None:
    """What runs under valgrind."""
    with ways.replay_of(per_turn, lengths, connections) as replay:
        work = Work.of(replay)
        # Or some way pays for a scan of all that was imported, and which one is chance.
        gc.collect()
        gc.freeze()
        for name in WAYS:
            for _ in range(_WARM):
                ways.receive(work, name, _unmarked)
            ways.receive(work, name, _between_marks)
        print(json.dumps([replay.buffers, replay.size_bytes]))


if __name__ == "__main__":
    _child(int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))

"""The counting plugin and ``python -m vm bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds
from vm import bench

ROOT = Path(__file__).parents[2]
SIZE = 8 << 20


def bench_json(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "bench", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def measured() -> bench.Measured:
    told = bench_json(
        "--nodev",
        "--touches",
        "--",
        "-r",
        "c-gather",
        "-r",
        "c",
        "-r",
        "recv_into-64K",
        "-r",
        "columns",
        "--rounds",
        "1",
        "--size",
        "8M",
    )
    counts = {int(run): count for run, count in told["counts"].items()}
    return bench.Measured(told["report"], counts, {})


def test_every_run_is_counted(measured: bench.Measured) -> None:
    for name in ("c-gather", "c", "recv_into-64K", "columns"):
        [(run, counts)] = measured.counted(name)
        assert run["bytes"] == SIZE
        assert counts["user"] > SIZE // 8  # it reads every byte, at most a word at a time
        assert counts["system"] > 0
        assert counts["other"] > 0


def test_payload_is_read_once(measured: bench.Measured) -> None:
    for name in ("c-gather", "c", "recv_into-64K", "columns"):
        [(run, counts)] = measured.counted(name)
        assert bench.touched(run, counts, "read_bytes") == pytest.approx(1, abs=0.02), name


def test_copies_are_seen(measured: bench.Measured) -> None:
    """recv() copies to the user's buffer, NODEV by memcpy() into the area."""
    [(run, counts)] = measured.counted("recv_into-64K")
    assert bench.touched(run, counts, "copy_written_bytes") == pytest.approx(1, abs=0.1)
    [(run, counts)] = measured.counted("c")
    assert bench.touched(run, counts, "memcpy_written_bytes") == pytest.approx(1, abs=0.1)


@pytest.fixture(scope="module")
def forwarded() -> bench.Measured:
    """On the simulated NIC; the sender compares what comes back."""
    names = ("echo-copied", "echo-zero-copy", "relay-copied", "relay-zero-copy")
    chosen = [option for name in names for option in ("-r", name)]
    size = f"{rounds(8, 256)}M"
    told = bench_json(
        "--touches",
        "--pack",
        "--",
        *chosen,
        *("--rx-buf-len", "32K", "--rounds", "1", "--size", size),
    )
    counts = {int(run): count for run, count in told["counts"].items()}
    return bench.Measured(told["report"], counts, {})


@pytest.mark.parametrize("way", ["echo", "relay"])
def test_what_is_sent_on_without_a_copy_is_not_touched(forwarded: bench.Measured, way: str) -> None:
    """By user code, by the kernel's copying functions, by memcpy(); nor by what the NIC counts.

    Headers are copied in either way: a few bytes of a hundred. User code may read a little: what
    fills less than a quarter of its buffers is gathered (Outbox.take()).
    """
    for name, copies in (f"{way}-zero-copy", 0), (f"{way}-copied", 1):
        [(run, counts)] = forwarded.counted(name)
        assert run["bytes"] == rounds(8, 256) << 20
        assert bench.touched(run, counts, *bench.TOUCHES["read"]) < 0.01, name
        copied = bench.touched(run, counts, *bench.TOUCHES["copied to"])
        assert copied == pytest.approx(copies, abs=0.06), name
        assert run["copied"] == pytest.approx(copies, abs=0.01), name
        # In, and out.
        dma = bench.touched(run, counts, *bench.TOUCHES["card's DMA"])
        assert dma == pytest.approx(2, abs=0.2), name


MOVES = """
import mmap, re, sys
from tests.perf.marks import Marking

def moved():
    return int(re.search("pgmigrate_success ([0-9]+)", open("/proc/vmstat").read())[1])

held = mmap.mmap(-1, 64 << 20)
held.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, len(held), 4096):
    held[at] = 1
for at in range(0, len(held), 8192):  # every second page is free again
    held.madvise(mmap.MADV_DONTNEED, at, 4096)
before = moved()
marking = Marking(1)
marking.start()
with open("/proc/sys/vm/compact_memory", "w") as compact:
    compact.write("1")
marking._end()
print(moved() - before)
"""


def test_pages_that_are_moved_are_not_copied_payload(tmp_path: Path) -> None:
    """The kernel compacts memory in whichever task asks for some, now and then the receiver."""
    with bench.booted(bench.Options(touches=True, nodev=True), tmp_path) as guest:
        done = guest.run(["env", f"PYTHONPATH={bench.SOURCE}", "python3", "-c", MOVES], timeout=120)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 64
    counts = json.loads((tmp_path / "counts").read_text())
    assert counts["memcpy_written_bytes"] + counts["other_memcpy_bytes"] < 16 * 4096


def test_the_tables(measured: bench.Measured) -> None:
    lines = [*bench.instructions(measured), *bench.touches(measured)]
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("columns") for line in lines) == 2


def test_bad_arguments_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "bench", "--nodev", "--no-counting", "--", "-r", "nonesuch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "nonesuch" in done.stderr
    assert "Traceback" not in done.stderr

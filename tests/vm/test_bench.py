"""The counting plugin and ``python -m vm bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vm import bench, counting, profile
from vm.errors import BuildFailed

ROOT = Path(__file__).parents[2]
SIZE = 8 << 20
KALLSYMS = """ffffffff81000000 T _text
ffffffff81001000 T asm_exc_page_fault
ffffffff81001020 T asm_sysvec_call_function
ffffffff81001040 T asm_common_interrupt
ffffffff81001060 t handle_softirqs
ffffffff81001080 D a_variable
ffffffff81002000 T __switch_to_asm\t[zcrxsim]
"""


def test_symbols_of_interest() -> None:
    assert counting.of_interest(counting.Symbols(KALLSYMS)).splitlines() == [
        "exception ffffffff81001000 ffffffff81001020",
        "irq ffffffff81001020 ffffffff81001040",
        "irq ffffffff81001040 ffffffff81001060",
        "softirq ffffffff81001060 ffffffff81002000",
        "switch ffffffff81002000 ffffffff81003000",
    ]


def test_symbols_by_address() -> None:
    symbols = counting.Symbols(KALLSYMS)
    assert symbols.at(0xFFFFFFFF81001025) == "asm_sysvec_call_function"
    assert symbols.at(0x1000) == "0x1000"


def test_a_profile_is_read_by_run(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_text("1 user 400000 2 10\n1 user 400000 1 5\n2 system ffffffff81000000 1 3\n")
    assert profile.read(file) == {
        1: {"user": {0x400000: 15}}, 2: {"system": {0xFFFFFFFF81000000: 3}}
    }  # fmt: skip


def bench_json(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "bench", "--json", *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def measured() -> bench.Measured:
    told = bench_json(
        "--nodev", "--touches", "--", "-r", "c", "-r", "recv_into-64K", "-r", "columns",
        "--rounds", "1", "--size", "8M",
    )  # fmt: skip
    counts = {int(run): count for run, count in told["counts"].items()}
    return bench.Measured(told["report"], counts, {})


def test_every_run_is_counted(measured: bench.Measured) -> None:
    for name in ("c", "recv_into-64K", "columns"):
        [(run, counts)] = measured.counted(name)
        assert run["bytes"] == SIZE
        assert counts["user"] > SIZE // 8  # it reads every byte, at most a word at a time
        assert counts["system"] > 0
        assert counts["other"] > 0


def test_payload_is_read_once(measured: bench.Measured) -> None:
    for name in ("c", "recv_into-64K", "columns"):
        [(run, counts)] = measured.counted(name)
        assert bench.touched(run, counts, "read_bytes") == pytest.approx(1, abs=0.02), name


def test_copies_are_seen(measured: bench.Measured) -> None:
    """recv() copies to the user's buffer, NODEV by memcpy() into the area."""
    [(run, counts)] = measured.counted("recv_into-64K")
    assert bench.touched(run, counts, "copy_written_bytes") == pytest.approx(1, abs=0.1)
    [(run, counts)] = measured.counted("c")
    assert bench.touched(run, counts, "memcpy_written_bytes") == pytest.approx(1, abs=0.1)


def test_the_tables(measured: bench.Measured) -> None:
    lines = [*bench.instructions(measured), *bench.touches(measured)]
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("columns") for line in lines) == 2


def test_bad_arguments_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "bench", "--nodev", "--no-counting", "--", "-r", "nonesuch"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "nonesuch" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugin_that_does_not_build_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "count.c").write_text("no C\n")
    monkeypatch.setattr(counting, "SOURCE", tmp_path)
    with pytest.raises(BuildFailed, match="counting plugin"):
        counting.plugin()

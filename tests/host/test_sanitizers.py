"""The shim, built with AddressSanitizer and UBSan, under everything that fuzzes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyzcrx
from vm import wheel

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/host/test_hostile_rings.py",
    "tests/unit/test_lease.py",
    "tests/unit/test_run_lease.py",
    "tests/unit/test_inbox.py",
    "tests/unit/test_collect.py",
    "tests/unit/test_views.py",
    "tests/unit/test_refill.py",
    "tests/unit/test_model.py",
)
RUN = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
sys.path[:0] = sys.argv[1:3]
import pytest, pyzcrx
assert pyzcrx.__file__.startswith(sys.argv[1]), pyzcrx.__file__
config = sys.argv[2] + "/pyproject.toml"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-c", config, *sys.argv[3:]]))
"""


def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    package, build = tmp_path / "site" / "pyzcrx", tmp_path / "build"
    source = Path(pyzcrx.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    environment = os.environ | {"PKG_CONFIG_PATH": str(wheel.liburing())}
    steps: list[list[str | Path]] = [
        [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            ROOT / "csrc",
            "-B",
            build,
            "-DPYZCRX_SANITIZE=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
        ],
        ["cmake", "--build", build],
    ]
    for argv in steps:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for module in build.glob("*.abi3.so"):
        shutil.copy(module, package)
    libraries = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path / "site", ROOT, *(ROOT / test for test in TESTS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # Python itself keeps memory to its end: leaks are not what is looked for.
        env=environment
        | {
            "LD_PRELOAD": ":".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        },
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout

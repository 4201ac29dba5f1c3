"""What is built: a wheel for every Python, a complete sdist, a clear word without liburing."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    return folder


def test_one_abi3_wheel_with_both_modules(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert "-cp311-abi3-linux_" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"pyzcrx/_zcrx.abi3.so", "pyzcrx/_lease.abi3.so", "pyzcrx/py.typed"} <= names
    assert {"pyzcrx/_zcrx.pyi", "pyzcrx/testing/model.py", "pyzcrx/cli/echo.py"} <= names
    assert not [name for name in names if name.startswith(("vm/", "tests/")) or ".c" in name[-2:]]


def test_the_modules_export_their_entry_and_nothing_of_liburing(
    built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    for module in ("_zcrx", "_lease"):
        path = tmp_path / "pyzcrx" / f"{module}.abi3.so"
        symbols = subprocess.run(
            ["nm", "-D", "--defined-only", path], check=True, capture_output=True, text=True
        ).stdout.split()
        assert symbols[2::3] == [f"PyInit_{module}"]
        needed = subprocess.run(
            ["objdump", "-p", path], check=True, capture_output=True, text=True
        ).stdout
        assert "liburing" not in needed


def test_the_sdist_is_complete(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for folder in ("csrc", "pyzcrx", "tests", "vm", "scripts", "docs", "examples"):
        tracked = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        assert not set(tracked) - names
    assert {"LICENSE", "README.md", "build_ffi.py", "pyproject.toml"} <= names


def configure(tmp_path: Path, version: str | None) -> subprocess.CompletedProcess[str]:
    """Configure against a liburing that claims that version, or against none."""
    packages = tmp_path / "pkgconfig"
    packages.mkdir()
    if version:
        (packages / "liburing.pc").write_text(
            f"libdir={tmp_path}\nName: liburing\nVersion: {version}\nDescription: old\n"
        )
    return subprocess.run(
        [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            str(ROOT / "csrc"),
            "-B",
            str(tmp_path / "build"),
            f"-DPython_EXECUTABLE={sys.executable}",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PKG_CONFIG_LIBDIR": str(packages), "PKG_CONFIG_PATH": ""},
    )


@pytest.mark.parametrize(
    ("version", "found"),
    [(None, "none was found"), ("2.3", "2.3 was found"), ("2.12", "has no liburing.a")],
)
def test_without_a_fit_liburing_the_build_says_what_was_found_and_the_ways_out(
    tmp_path: Path, version: str | None, found: str
) -> None:
    done = configure(tmp_path, version)
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert found in text
    assert "scripts/get-liburing" in text
    assert text.count("pyzcrx:") == 1

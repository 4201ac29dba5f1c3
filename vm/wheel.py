"""pyzcrx for the guest: the wheel a user would install, built from this checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vm import cache, external, host
from vm.errors import BuildFailed, InvalidRequest

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "build_ffi.py", "README.md", "LICENSE")
SOURCE_FOLDERS = ("csrc", "pyzcrx")


def sources(root: Path) -> list[Path]:
    """The files that decide what the wheel holds, beside liburing, which is linked in."""
    files = [root / name for name in SOURCES if (root / name).is_file()]
    for folder in SOURCE_FOLDERS:
        files += sorted(
            path
            for path in (root / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
    return files


def obtain(wanted: str) -> tuple[Path, cache.Entry | None] | None:
    """The wheel for ``auto`` or a path; None for ``none``. Keep the entry meanwhile."""
    if wanted == "none":
        return None
    if wanted != "auto":
        path = Path(wanted)
        if path.suffix != ".whl" or not path.is_file():
            raise InvalidRequest(f"no wheel at {wanted}")
        return path.absolute(), None
    files = sources(ROOT)
    parts = [part for file in files for part in (str(file.relative_to(ROOT)), file.read_bytes())]
    pkg_config = os.environ.get("PKG_CONFIG_PATH")
    if pkg_config is None:
        pkg_config = liburing()
    key = cache.key("wheel", sys.version, liburing_version(pkg_config), *parts)

    def make(folder: Path) -> None:
        with host.progress("building pyzcrx's wheel"):
            _build(folder, pkg_config)

    entry = cache.obtain("wheel", key, make, keep=4)
    return next(entry.path.glob("*.whl")), entry


def _build(folder: Path, pkg_config: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _run(
        [*pip, "wheel", "--no-deps", "-q", "-w", str(folder), str(ROOT)],
        "building the wheel",
        {**os.environ, "PKG_CONFIG_PATH": pkg_config},
    )
    if not any(folder.glob("*.whl")):
        raise BuildFailed("pip made no wheel")


def liburing() -> str:
    """The folder for PKG_CONFIG_PATH, made by scripts/get-liburing."""
    lines = _run([str(ROOT / "scripts/get-liburing")], "getting liburing", dict(os.environ))
    return lines.split("\n")[-1]


def liburing_version(pkg_config: str) -> str:
    """Of the one found by that PKG_CONFIG_PATH: what is built with it holds it."""
    query = ["pkg-config", "--modversion", "liburing"]
    said = host.run(query, what="finding liburing", env={"PKG_CONFIG_PATH": pkg_config})
    return said.decode().strip()


def _run(argv: list[str], what: str, environment: dict[str, str]) -> str:
    done = external.run(argv, env=environment, capture_output=True)
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.returncode:
        host.check_full(what, out + err, host.temporary(), cache.root())
        raise BuildFailed(f"{what} failed", host.last_lines(out + err))
    return out.strip()

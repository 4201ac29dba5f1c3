"""The host's tools: found or named with the package that brings them; long work shown."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vm import external
from vm.errors import BuildFailed, ModulesMissing, NoSpace, ToolMissing

# An ordinary user's PATH often lacks the folders where mke2fs and its like live.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "zstd": "zstd",
    "tar": "tar",
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "gelf.h": "libelf-dev",
    "git": "git",
    "cmake": "cmake",
    "ninja": "ninja-build",
    "pkg-config": "pkg-config",
    "nm": "binutils",
    "readelf": "binutils",
    "socat": "socat",
}
"""Debian's package of each program that is started on this machine."""
LOG_LINES = 15
GIB = 1 << 30
FULL = ("No space left on device", "Disk quota exceeded")


def find(tool: str) -> str | None:
    return shutil.which(tool, path=SEARCH_PATH)


def need(tool: str, *more: str) -> str:
    """The first tool's path, or ToolMissing with every one that is not there."""
    require(*(each for each in (tool, *more) if find(each) is None))
    return find(tool) or tool


def require(*missing: str) -> None:
    """ToolMissing if there is any."""
    if missing:
        packages = dict.fromkeys(PACKAGES.get(each, each) for each in missing)
        raise ToolMissing(missing, [*packages])


def need_modules(*names: str) -> None:
    """ModulesMissing unless this Python has all of these modules."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ModulesMissing(missing)


def need_space(what: str, wanted: Mapping[Path, int]) -> None:
    """NoSpace unless each folder's filesystem has that many bytes, those of one together."""
    sums: dict[int, tuple[Path, int]] = {}
    for folder, size_bytes in wanted.items():
        at = next(path for path in (folder, *folder.parents) if path.exists())
        device = at.stat().st_dev
        sums[device] = (at, size_bytes + sums.get(device, (at, 0))[1])
    for at, size_bytes in sums.values():
        free = shutil.disk_usage(at).free
        if free < size_bytes:
            raise NoSpace(
                f"{what} needs {size_bytes / GIB:.1f} GiB in {at}, where {free / GIB:.1f} GiB are"
                " free: make room there, or set TMPDIR and XDG_CACHE_HOME to folders with more"
            )


def check_full(what: str, log: str, *folders: Path) -> None:
    """NoSpace if this log of a failed step says that a filesystem was full."""
    if any(words in log for words in FULL):
        free = ", ".join(
            f"{shutil.disk_usage(folder).free / GIB:.1f} GiB free in {folder}" for folder in folders
        )
        raise NoSpace(
            f"{what} failed: no space left on device ({free}): make room there, or set TMPDIR"
            " and XDG_CACHE_HOME to folders with more",
            last_lines(log),
        )


def run(argv: Sequence[str | Path], *, what: str, env: Mapping[str, str] | None = None) -> bytes:
    """Run a step of a build; its stdout, or BuildFailed with the last lines of stderr."""
    command = [need(str(argv[0])), *map(str, argv[1:])]
    done = external.run(
        command, capture_output=True, env={**os.environ, "PATH": SEARCH_PATH, **(env or {})}
    )
    if done.returncode:
        log = done.stderr.decode(errors="replace")
        check_full(what, log, temporary(), Path.cwd())
        how = ended(done.returncode)
        raise BuildFailed(f"{what} failed ({Path(command[0]).name} {how})", last_lines(log))
    return done.stdout


def ended(returncode: int) -> str:
    """How a program ended, in words."""
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"exited with {returncode}"


def temporary() -> Path:
    """Where temporary files are made."""
    return Path(tempfile.gettempdir())


def memory_file(name: str, data: bytes) -> int:
    """An fd of a file that has no place on disk, for a child to open by its number."""
    fd = os.memfd_create(name)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def last_lines(text: str, count: int = LOG_LINES) -> list[str]:
    return [line for line in text.replace("\r", "").split("\n") if line.strip()][-count:]


@contextmanager
def progress(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Say what takes long: a running clock on a terminal, else a line before and after."""
    out = stream if stream is not None else sys.stderr
    start = time.monotonic()
    if not out.isatty():
        print(f"vm: {what} ...", file=out, flush=True)
        yield
        print(f"vm: {what}: {time.monotonic() - start:.0f} s", file=out, flush=True)
        return

    over = threading.Event()

    def tick() -> None:
        while True:
            seconds = time.monotonic() - start
            print(f"\rvm: {what} ... {seconds:.0f} s", end="", file=out, flush=True)
            if over.wait(1):
                return

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
        print(file=out, flush=True)

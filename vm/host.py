"""The host's tools: found or named with the package that brings them; long work shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vm.errors import BuildFailed, ToolMissing

# An ordinary user's PATH often lacks the folders where mke2fs and its like live.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "zstd": "zstd",
    "tar": "tar",
}
LOG_LINES = 15


def find(tool: str) -> str | None:
    return shutil.which(tool, path=SEARCH_PATH)


def need(tool: str) -> str:
    """The tool's path, or ToolMissing with the line that mends it."""
    path = find(tool)
    if path is None:
        raise ToolMissing(tool, PACKAGES.get(tool, tool))
    return path


def run(argv: Sequence[str | Path], *, what: str, env: Mapping[str, str] | None = None) -> bytes:
    """Run a step of a build; its stdout, or BuildFailed with the last lines of stderr."""
    command = [need(str(argv[0])), *map(str, argv[1:])]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PATH": SEARCH_PATH, **(env or {})},
        check=False,
    )
    if done.returncode:
        raise BuildFailed(
            f"{what} failed ({Path(command[0]).name} exited with {done.returncode})",
            last_lines(done.stderr.decode(errors="replace")),
        )
    return done.stdout


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

"""What Debian's archive has of kernels: fetched by apt, and kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vm import bootstrap, cache, host, kernel
from vm.errors import BuildFailed, InvalidRequest, NotOffered
from vm.kernel import Kernel

NONE = "pyzcrx: none"
"""What a hook says that finds no such package."""
SOURCE = "linux-source.tar.xz"
VERSION = r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?"
"""Of a kernel, as ``debian:`` takes it."""


def series(release: str) -> str:
    """``7.3`` of ``7.3.4+deb13-amd64``."""
    found = re.match(r"\d+\.\d+", release)
    if not found:
        raise InvalidRequest(f"{release!r} is no kernel release")
    return found[0]


def source(release: str) -> cache.Entry:
    """A folder with :data:`SOURCE`, the distribution's source of this kernel's series."""
    hook = bootstrap.recipe("source.sh")

    def make(folder: Path) -> None:
        with host.progress(f"fetching the kernel's source ({series(release)}, 160 MB)"):
            bootstrap.make(folder, [], hook, env={"SERIES": series(release)})

    return cache.obtain("source", cache.key(release, hook), make, keep=2)


def unpack(release: str, folder: Path, below: str = "") -> None:
    """The files of that source, or of one of its folders, into ``folder``."""
    depth = 1 + len(Path(below).parts)
    packed = source(release)
    argv: list[str | Path] = ["tar", "-C", folder, f"--strip-components={depth}", "-xf"]
    only = ["--wildcards", f"linux-source-*/{below}"] if below else []
    host.run([*argv, packed / SOURCE, *only], what=f"unpacking {below or 'the kernel source'}")


def find(version: str, *, rebuild: bool = False) -> Kernel:
    """The newest kernel of this version ("7.2", "7.2.12") among those that the guest's own
    suites have; the same one until ``rebuild``.
    """
    if not re.fullmatch(VERSION, version):
        raise InvalidRequest(f"{version!r} is no kernel version (like 7.2 or 7.2.12)")
    hook = bootstrap.recipe("kernel.sh")

    def make(folder: Path) -> None:
        with host.progress(f"fetching the archive's newest kernel {version}"):
            try:
                bootstrap.make(folder, [], hook, env={"VERSION": version})
            except BuildFailed as error:
                if NONE in error.details:
                    suites = f"{bootstrap.SUITE} and {bootstrap.BACKPORTS}"
                    raise NotOffered(f"{suites} have no kernel {version}") from None
                raise
            kernel.resolve_modules(folder)

    name = cache.key("kernel", version, hook)
    if rebuild:
        cache.forget("archive", name)
    entry = cache.obtain("archive", name, make, keep=2)
    return replace(kernel.locate(entry.path), held=entry)

"""What Debian's archive has of kernels: fetched by apt, and kept."""

from __future__ import annotations

import re
from pathlib import Path

from vm import bootstrap, cache, host
from vm.errors import BadRequest

SOURCE = "linux-source.tar.xz"


def series(release: str) -> str:
    """``7.3`` of ``7.3.4+deb13-amd64``."""
    found = re.match(r"\d+\.\d+", release)
    if not found:
        raise BadRequest(f"{release!r} is no kernel release")
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

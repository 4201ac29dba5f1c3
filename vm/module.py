"""The simulated card's module (vm/zcrxsim), built for a kernel and kept.

For a kernel of the distribution its headers are fetched; for one of a developer, the
tree that it was built in is used, with the compiler of this machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vm import bootstrap, cache, host, image, kernel
from vm.errors import BadRequest, BuildFailed
from vm.process import Completed

SOURCE = Path(__file__).parent / "zcrxsim"
NAME = "zcrxsim.ko"
GUEST_FOLDER = "/run/pyzcrx/zcrxsim"
SETUP_SECONDS = 120.0


def for_guest(chosen: Path | None) -> cache.Entry:
    """The module for a guest with this ``--kernel``. A folder that a kernel was built in
    is the tree to build against.
    """
    release = kernel.locate(chosen or image.obtain().vmlinuz).release
    tree = chosen if chosen and (chosen / "Module.symvers").is_file() else None
    return obtain(release, tree)


def set_up(run: Callable[..., Completed], *parameters: str) -> None:
    """Load it in a guest that has it at GUEST_FOLDER, and set the pair up."""
    done = run([f"{GUEST_FOLDER}/setup", *parameters], timeout=SETUP_SECONDS)
    if done.returncode:
        lines = host.last_lines(done.stderr.decode(errors="replace"))
        raise BuildFailed("the simulated cards could not be set up in the guest", lines)


def sources() -> list[Path]:
    """What the module is made from."""
    return sorted(
        path for path in SOURCE.iterdir() if path.suffix in (".c", ".h") or path.name == "Kbuild"
    )


def obtain(release: str, tree: Path | None = None) -> cache.Entry:
    """A folder with the module for a kernel, and what sets a pair up in a guest."""
    hook = bootstrap.recipe("module.sh")
    parts = [part for path in sources() for part in (path.name, path.read_bytes())]
    setup = SOURCE / "setup"
    if tree is None:
        stamp = ""
    elif (symbols := tree / "Module.symvers").is_file():
        stamp = f"{tree} {symbols.stat().st_mtime_ns}"
    else:
        raise BadRequest(f"{tree} is no built kernel tree: it has no Module.symvers")

    def make(folder: Path) -> None:
        with host.progress(f"building the simulated card's module for {release}"):
            if tree is None:
                _make_in_debian(folder, release, hook)
            else:
                _make_in_tree(folder, tree)
            shutil.copy(setup, folder)

    key = cache.key("zcrxsim", release, stamp, hook, setup.read_bytes(), *parts)
    return cache.obtain("zcrxsim", key, make, keep=4)


def _make_in_debian(folder: Path, release: str, hook: str) -> None:
    data = bootstrap.tar((path.name, path) for path in sources())
    try:
        bootstrap.make(
            folder,
            [f"linux-headers-{release}", "binutils", "make"],
            hook,
            env={"RELEASE": release},
            data=data,
        )
    except BuildFailed as error:
        gone = any("Unable to locate package" in line for line in error.details)
        hint = "if the archive no longer has its headers: python -m vm build --rebuild"
        if gone:
            raise BuildFailed(f"no module for {release}; {hint}", error.details) from None
        raise


def _make_in_tree(folder: Path, tree: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        for path in sources():
            shutil.copy(path, work)
        jobs = f"-j{os.cpu_count() or 1}"
        host.run(["make", "-C", tree, f"M={work}", jobs, "modules"], what="building the module")
        shutil.copy(Path(work) / NAME, folder)

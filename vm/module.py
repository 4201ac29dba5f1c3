"""Modules built for a kernel and kept: the simulated card's, and the kernel's netdevsim.

For a kernel of the distribution its headers are fetched; for one of a developer, the
tree that it was built in is used, with the compiler of this machine. The simulated card's
sources are ours (vm/zcrxsim), those of netdevsim are the kernel's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vm import archive, bootstrap, cache, host
from vm.choice import choose
from vm.errors import BuildFailed, InvalidRequest
from vm.kernel import Kernel
from vm.process import Completed

HERE = Path(__file__).parent
SETUP_SECONDS = 120.0


@dataclass(frozen=True)
class Module:
    """What is built. ``upstream`` is the folder of its sources in the kernel's tree; a
    module without has them beside its ``script``, which sets it up in a guest.
    """

    name: str
    script: Path
    argument: str
    """For its make."""
    upstream: str = ""

    @property
    def file(self) -> str:
        return f"{self.name}.ko"

    @property
    def guest_folder(self) -> str:
        """Where a guest has it, with its script."""
        return f"/run/pyzcrx/{self.name}"


ZCRXSIM = Module("zcrxsim", HERE / "zcrxsim/setup", "W=1")
NETDEVSIM = Module(
    "netdevsim", HERE / "netdevsim/load", "CONFIG_NETDEVSIM=m", "drivers/net/netdevsim"
)
GUEST_FOLDER = ZCRXSIM.guest_folder


def for_guest(kernel: Kernel | None = None, module: Module = ZCRXSIM) -> cache.Entry:
    """The module for a guest with this kernel, or with the stock one."""
    return obtain(module, kernel or choose())


def set_up(run: Callable[..., Completed], *parameters: str, module: Module = ZCRXSIM) -> None:
    """Run its script in a guest that has it at its guest folder."""
    script = f"{module.guest_folder}/{module.script.name}"
    done = run([script, *parameters], timeout=SETUP_SECONDS)
    if done.returncode:
        lines = host.last_lines(done.stderr.decode(errors="replace"))
        raise BuildFailed(f"{module.name} could not be set up in the guest", lines)


def sources(folder: Path) -> list[Path]:
    """What a module is made from."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in (".c", ".h") or path.name in ("Kbuild", "Makefile")
    )


def obtain(module: Module, kernel: Kernel) -> cache.Entry:
    """A folder with the module for a kernel, and its script."""
    hook = bootstrap.recipe("module.sh")
    here = _sources_here(module, kernel)
    stamp = ""
    if kernel.tree:
        stamp = f"{kernel.tree} {(kernel.tree / 'Module.symvers').stat().st_mtime_ns}"

    def make(folder: Path) -> None:
        with (
            host.progress(f"building the module {module.name} for {kernel.release}"),
            tempfile.TemporaryDirectory() as work,
        ):
            for path in here:
                shutil.copy(path, work)
            if not here:
                archive.unpack(kernel.release, Path(work), module.upstream)
            build = _make_in_tree if kernel.tree else _make_in_debian
            build(module, kernel, Path(work), folder)
            shutil.copy(module.script, folder)

    parts = [part for path in here for part in (path.name, path.read_bytes())]
    script = module.script.read_bytes()
    key = cache.key(kernel.release, stamp, hook, module.argument, script, *parts)
    return cache.obtain(module.name, key, make, keep=16)


def _sources_here(module: Module, kernel: Kernel) -> list[Path]:
    """Its sources, as far as this machine has them; nothing if the archive has."""
    if not module.upstream:
        return sources(module.script.parent)
    if not kernel.tree:
        return []
    # A tree that was built elsewhere (make O=) has a link to its source.
    folders = [kernel.tree / "source" / module.upstream, kernel.tree / module.upstream]
    for folder in folders:
        if (folder / "Makefile").is_file() and (found := sources(folder)):
            return found
    raise InvalidRequest(f"{kernel.tree} has no sources of {module.name}")


def _make_in_debian(module: Module, kernel: Kernel, work: Path, folder: Path) -> None:
    release = kernel.release
    try:
        bootstrap.make(
            folder,
            [f"linux-headers-{release}", "binutils", "make"],
            bootstrap.recipe("module.sh"),
            env={"RELEASE": release, "MODULE": module.file, "ARGUMENT": module.argument},
            data=bootstrap.tar((path.name, path) for path in sources(work)),
        )
    except BuildFailed as error:
        gone = any("Unable to locate package" in line for line in error.details)
        hint = "if the archive no longer has its headers: python -m vm build --rebuild"
        if gone:
            raise BuildFailed(f"no module for {release}; {hint}", error.details) from None
        raise


def _make_in_tree(module: Module, kernel: Kernel, work: Path, folder: Path) -> None:
    assert kernel.tree
    jobs = f"-j{os.cpu_count() or 1}"
    host.run(
        ["make", "-C", kernel.tree, f"M={work}", jobs, module.argument, "modules"],
        what=f"building the module {module.name}",
    )
    shutil.copy(work / module.file, folder)

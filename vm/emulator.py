"""The QEMU that guests run, from the distribution's backports, whatever the machine itself has.

It is unpacked in the cache and runs through its own loader with its own libraries, so that
nothing is installed::

    python -m vm.emulator        # prints the folder

10.1 or newer has vfio-user. Before 8.1, TCG may run a kernel's code as it was while that was being
patched (docs/how-to/guest.md): guests die of "int3", most of them as they boot on a busy machine.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from vm import bootstrap, cache, host
from vm.errors import BuildFailed, VmError

PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
"""All of one version: apt takes what one of them needs from the older suite otherwise."""
SPACE = bootstrap.Space(tree_bytes=1 << 30, result_bytes=512 << 20)
MODEL = "vfio-user-pci"
"""The device model that tells a QEMU that is new enough."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PROGRAM = "usr/bin/qemu-system-x86_64"
FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


@dataclass(frozen=True)
class Qemu:
    """The unpacked program. Keep the object while it runs."""

    entry: cache.Entry

    @property
    def argv(self) -> tuple[str, ...]:
        """What starts it, to be followed by its options."""
        return command(self.entry.path)

    @property
    def version(self) -> str:
        said = host.run([*self.argv, "--version"], what="asking QEMU its version").decode()
        found = re.search(r"version (\S+)", said)
        return found[1] if found else said.partition("\n")[0]


def command(root: Path) -> tuple[str, ...]:
    """The program below this folder, by its own loader."""
    libraries = root / LIBRARIES
    return (
        "env",
        f"QEMU_MODULE_DIR={libraries / 'qemu'}",
        str(libraries / "ld-linux-x86-64.so.2"),
        *("--library-path", str(libraries), "--argv0", Path(PROGRAM).name),
        str(root / PROGRAM),
        *(part for folder in FIRMWARE for part in ("-L", str(root / folder))),
    )


def obtain() -> Qemu:
    """The newest one that the archive had when the cache was filled."""
    hook = bootstrap.recipe("qemu.sh")

    def make(folder: Path) -> None:
        with host.progress(f"unpacking QEMU from {bootstrap.BACKPORTS}"):
            bootstrap.make(
                folder,
                [f"{package}/{bootstrap.BACKPORTS}" for package in PACKAGES],
                hook,
                env={"PROGRAM": PROGRAM, "LIBRARIES": LIBRARIES, "FIRMWARE": " ".join(FIRMWARE)},
                space=SPACE,
                install=False,
            )
            _check(folder)

    parts = (bootstrap.SUITE, bootstrap.SOURCES, hook, PROGRAM, LIBRARIES, *PACKAGES, *FIRMWARE)
    return Qemu(cache.obtain("qemu", cache.key(*parts), make, keep=1))


def _check(root: Path) -> None:
    """It starts here, and it has the device model.

    Asked by name: a list of all would have it load modules of the machine's own QEMU, which it
    finds where it has none itself.
    """
    argv = [*command(root), "-device", f"{MODEL},help"]
    try:
        host.run(argv, what=f"starting the QEMU of {bootstrap.BACKPORTS}")
    except BuildFailed as error:
        message = f"{error}; 10.1 or newer is needed, with {MODEL}"
        raise BuildFailed(message, error.details) from None


def main() -> int:
    """Print the folder."""
    try:
        print(obtain().entry.path)
    except VmError as error:
        for line in error.details:
            print(f"  | {line}", file=sys.stderr)
        print(f"get-qemu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Which modules a boot needs before it has a root disk, in the order to load them."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from vm import host
from vm.errors import InvalidRequest
from vm.kernel import Kernel

# Each with the option that gives it, for kernels that have neither it nor a module.
REQUIRED = {
    "virtio_pci": "VIRTIO_PCI",
    "virtio_blk": "VIRTIO_BLK",
    "ext4": "EXT4_FS",
    "virtio_console": "VIRTIO_CONSOLE",
    "9pnet_virtio": "NET_9P_VIRTIO",
    "9p": "9P_FS",
}
# Until 6.14 ext4 and jbd2 asked the crypto API for crc32c by name, which modules.dep
# does not show, and there is no modprobe in the initramfs.
IF_THERE = ("crc32c_generic", "libcrc32c")


def plain(path: str) -> str:
    """Module name of a path: no folder, no suffixes, and only underscores."""
    return PurePosixPath(path).name.split(".ko")[0].replace("-", "_")


def load_order(dependencies: str, builtin: str, release: str) -> list[str]:
    """Paths below the modules folder such that each comes after what it needs."""
    paths: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        paths[plain(path)] = path
        needs[plain(path)] = [plain(each) for each in rest.split()]
    built_in = {plain(line) for line in builtin.splitlines()}

    order: list[str] = []

    def add(names: Iterable[str]) -> None:
        for name in names:
            if paths[name] not in order:
                add(needs[name])
                order.append(paths[name])

    add(name for name in IF_THERE if name in paths)
    for name, option in REQUIRED.items():
        if name in paths:
            add([name])
        elif name not in built_in:
            raise InvalidRequest(
                f"kernel {release} cannot run the guest: no {name}, built in or as a module"
                f" (CONFIG_{option})"
            )
    return order


def needed(kernel: Kernel) -> list[str]:
    """:func:`load_order` of a kernel's tree; without a tree all must be built in."""
    if kernel.modules is None:
        return []
    dependencies = (kernel.modules / "modules.dep").read_text()
    builtin = kernel.modules / "modules.builtin"
    return load_order(
        dependencies, builtin.read_text() if builtin.is_file() else "", kernel.release
    )


def read(path: Path) -> bytes:
    """A module as the kernel's loader takes it: unpacked."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return host.run(["zstd", "-dqc", path], what=f"unpacking {path.name}")
    return path.read_bytes()

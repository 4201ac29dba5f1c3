"""What QEMU boots: the kernel in its fastest form, and the initramfs."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from vm import cache, cpio, modules
from vm import kernel as kernels
from vm.image import Image
from vm.kernel import Kernel

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Boot:
    entry: cache.Entry
    kernel: Kernel
    key: str

    @property
    def image(self) -> Path:
        return self.entry / "kernel"

    def initramfs(self) -> bytes:
        """The kept part, and the agent as it is now."""
        return (self.entry / "base.cpio").read_bytes() + agent_archive()


def prepare(kernel: Kernel, image: Image) -> Boot:
    """The boot files of this kernel, from the cache where possible."""
    data = kernel.image.read_bytes()
    order = modules.needed(kernel)
    folder = kernel.modules or Path()
    init = (HERE / "inside/init").read_bytes()
    busybox = image.busybox.read_bytes()
    parts = [(folder / path).read_bytes() for path in order]
    recipe = Path(__file__).read_bytes() + Path(cpio.__file__).read_bytes()
    key = cache.key(recipe, data, init, busybox, *order, *parts)

    def make(target: Path) -> None:
        (target / "kernel").write_bytes(kernels.bare(data) or data)
        loaded = [(f"{modules.plain(path)}.ko", modules.read(folder / path)) for path in order]
        names = "".join(f"{name}\n" for name, _ in loaded)
        members = [
            *(cpio.folder(name) for name in ("bin", "dev", "proc", "root", "sys", "modules")),
            cpio.program("bin/busybox", busybox),
            cpio.Member("bin/sh", b"busybox", stat.S_IFLNK | 0o777),
            cpio.program("init", init),
            cpio.Member("modules/order", names.encode()),
            *(cpio.Member(f"modules/{name}", content) for name, content in loaded),
        ]
        (target / "base.cpio").write_bytes(cpio.archive(members))

    return Boot(cache.obtain("boot", key, make, keep=4), kernel, key)


def agent_archive() -> bytes:
    """The agent with the modules it imports, laid out as the package is here."""
    shared = [HERE / "__init__.py", HERE / "frames.py"]
    return cpio.archive(
        [
            cpio.folder("agent"),
            cpio.folder("agent/vm"),
            *(cpio.Member(f"agent/vm/{path.name}", path.read_bytes()) for path in shared),
            *cpio.tree(HERE / "inside", "agent/vm/inside"),
        ]
    )

"""The guest's root disk: Debian with its backports kernel, as an ext4 image."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vm import bootstrap, cache, host, modules
from vm.bootstrap import BACKPORTS, SOURCES, SUITE
from vm.errors import BuildFailed
from vm.kernel import release_of

PACKAGES = (
    f"linux-image-amd64/{BACKPORTS}",
    "tiny-initramfs",  # the kernel wants some initramfs maker; ours is vm.boot
    "busybox-static",
    "kmod",
    "e2fsprogs",  # what recordings are made on
    "xfsprogs",
    "procps",
    "strace",
    "iproute2",
    "ethtool",
    "nftables",
    "tcpdump",
    "socat",
    "netcat-openbsd",
    "iperf3",
    "curl",
    "python3",
    "python3-aiohttp",  # asyncio programs of others, run on our event loop
    "python3-cffi-backend",
    "python3-click",
    "python3-httpx",
    "python3-hypothesis",
    "python3-installer",
    "python3-numpy",
    "python3-psutil",
    "python3-pyroute2",
    "python3-pytest",
    "python3-trio",
    "python3-uvicorn",
    "libpython3.13-testsuite",  # asyncio's own tests, run on our event loop
)
UNWANTED = (
    *bootstrap.DOCS,
    "/etc/kernel/postinst.d/*",  # an initrd nobody boots: 15 seconds
    # Drivers of hardware no guest has, half of all modules.
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/drivers/staging/*",
    "/usr/lib/modules/*/kernel/sound/*",
    "/usr/lib/*/libicu*",  # 38 MB for xfs_scrub alone
)
TOOLS = ("mke2fs", "debugfs")
SPACE = bootstrap.Space(tree_bytes=2 << 30, result_bytes=1 << 30)
SIZE = "6G"  # sparse: what is free in the guest, not what it takes here

PACK = bootstrap.recipe("pack.sh")


@dataclass(frozen=True)
class Image:
    entry: cache.Entry
    key: str

    @property
    def disk(self) -> Path:
        return self.entry / "root.ext4"

    @property
    def vmlinuz(self) -> Path:
        return self.entry / "vmlinuz"

    @property
    def busybox(self) -> Path:
        return self.entry / "busybox"

    @property
    def packages(self) -> str:
        return (self.entry / "packages").read_text()


def tools() -> tuple[str, ...]:
    """What this machine must have to build it; nothing if it is built."""
    if (cache.root() / "image" / key()).is_dir():
        return ()
    return (*TOOLS, *bootstrap.tools())


def obtain(*, rebuild: bool = False) -> Image:
    """The image of this recipe, built if need be."""
    name = key()
    if rebuild:
        cache.forget("image", name)

    def make(folder: Path) -> None:
        with host.progress("building the guest image (Debian and its backports kernel)"):
            host.need(*TOOLS, *bootstrap.tools())
            bootstrap.make(
                folder, PACKAGES, PACK, env={"IMAGE_SIZE": SIZE}, unwanted=UNWANTED, space=SPACE
            )
            _extract_modules(folder)

    return Image(cache.obtain("image", name, make, keep=2), name)


def key() -> str:
    """Of all that decides what the image will hold, but for the archive's own progress."""
    return cache.key(SUITE, *PACKAGES, *UNWANTED, SIZE, SOURCES, PACK, *modules.REQUIRED)


def _extract_modules(folder: Path) -> None:
    """What the initramfs needs of the kernel's modules, out of the finished image."""
    release = release_of((folder / "vmlinuz").read_bytes())
    assert release, "Debian's vmlinuz is a kernel"
    target = folder / "modules" / release
    target.mkdir(parents=True)
    _dump(folder, release, ["modules.dep", "modules.builtin"])
    order = modules.load_order(
        (target / "modules.dep").read_text(), (target / "modules.builtin").read_text(), release
    )
    _dump(folder, release, order)


def _dump(folder: Path, release: str, names: list[str]) -> None:
    target = folder / "modules" / release
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    orders = "".join(f"dump /usr/lib/modules/{release}/{n} {target / n}\n" for n in names)
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write(orders)
        script.flush()
        host.run(["debugfs", "-f", script.name, folder / "root.ext4"], what="reading the image")
    missing = [name for name in names if not (target / name).is_file()]
    if missing:
        raise BuildFailed(f"the image lacks {', '.join(missing)}")

"""The guest's root disk: Debian with its backports kernel, made by mmdebstrap.

Works as root and as an ordinary user (then in a user namespace). A hook, run where the
files have their owners, packs the tree into an ext4 image and writes that as a tar to
a pipe it inherits: no path is needed that both sides of the namespace can reach.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vm import cache, host, modules
from vm.errors import BuildFailed
from vm.kernel import release_of

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
PACKAGES = (
    f"linux-image-amd64/{BACKPORTS}",
    "tiny-initramfs",  # the kernel wants some initramfs maker; ours is vm.boot
    "busybox-static",
    "kmod",
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
    "python3-cffi-backend",
    "python3-click",
    "python3-hypothesis",
    "python3-installer",
    "python3-numpy",
    "python3-psutil",
    "python3-pyroute2",
    "python3-pytest",
)
UNWANTED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/etc/kernel/postinst.d/*",  # an initrd nobody boots: 15 seconds
    # Drivers of hardware no guest has, half of all modules.
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/drivers/staging/*",
    "/usr/lib/modules/*/kernel/sound/*",
)
SIZE = "6G"  # sparse: what is free in the guest, not what it takes here

RECIPE = Path(__file__).parent / "recipe"
SOURCES = (RECIPE / "sources.sh").read_text()
PACK = (RECIPE / "pack.sh").read_text()


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


def obtain(*, rebuild: bool = False) -> Image:
    """The image of this recipe, built if need be."""
    name = key()
    if rebuild:
        cache.forget("image", name)

    def make(folder: Path) -> None:
        with host.progress("building the guest image (Debian and its backports kernel)"):
            _build(folder)
            _extract_modules(folder)

    return Image(cache.obtain("image", name, make, keep=2), name)


def key() -> str:
    """Of all that decides what the image will hold, but for the archive's own progress."""
    return cache.key(SUITE, *PACKAGES, *UNWANTED, SIZE, SOURCES, PACK, *modules.REQUIRED)


def archive_uri() -> str | None:
    """The Debian archive this machine uses, None if it uses none."""
    apt = host.find("apt-get")
    if apt is None:
        return None
    done = subprocess.run(
        [apt, "indextargets", "--format", "$(REPO_URI)", "Label: Debian", "Component: main"],
        capture_output=True,
        text=True,
        check=False,
    )
    return next(iter(done.stdout.split()), None)


def command(uri: str | None, *, as_root: bool) -> list[str]:
    """The mmdebstrap call."""
    sources = [f"deb {uri} {suite} main" for suite in (SUITE, BACKPORTS)] if uri else []
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=null",
        f"--mode={'root' if as_root else 'unshare'}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude={path}" for path in UNWANTED),
        f"--include={','.join(PACKAGES)}",
        f"--setup-hook={SOURCES}",
        f"--customize-hook={PACK}",
        SUITE,
        "-",
        *sources,
    ]


def _build(folder: Path) -> None:
    as_root = os.geteuid() == 0
    for tool in ("mmdebstrap", "mke2fs", "debugfs", "tar", *([] if as_root else ["newuidmap"])):
        host.need(tool)
    # If we are killed, mmdebstrap gets a signal that lets it clear its own files away.
    argv = [host.need("setpriv"), "--pdeathsig", "TERM", *command(archive_uri(), as_root=as_root)]
    environment = {
        **os.environ,
        "PATH": host.SEARCH_PATH,
        "SUITE": SUITE,
        "BACKPORTS": BACKPORTS,
        "IMAGE_SIZE": SIZE,
    }
    read, write = os.pipe()
    with tempfile.TemporaryFile() as log, open(read, "rb") as stream:
        build = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment | {"PYZCRX_OUT": str(write)},
            pass_fds=[write],
        )
        os.close(write)
        with build:
            subprocess.run(
                ["tar", "--sparse", "-C", str(folder), "-xf", "-"],
                stdin=stream,
                stderr=subprocess.DEVNULL,  # an empty stream has its reason in the log
                check=False,
            )
        if build.returncode or not (folder / "root.ext4").is_file():
            log.seek(0)
            # mmdebstrap prints whole hooks; they would bury the reason.
            script = {*SOURCES.splitlines(), *PACK.splitlines()}
            text = log.read().decode(errors="replace").splitlines()
            lines = host.last_lines("\n".join(line for line in text if line not in script))
            raise BuildFailed(f"mmdebstrap failed (status {build.returncode})", lines)


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

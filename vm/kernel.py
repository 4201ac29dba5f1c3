"""A kernel to boot: found, identified, and its modules resolved.

Kernel: Documentation/arch/x86/boot.rst (the bzImage header), modules.dep(5).
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from vm import cache, external, host
from vm.errors import InvalidRequest

IMAGE_NAMES = (
    *("vmlinuz", "bzImage", "arch/x86/boot/bzImage", "vmlinuz-*", "boot/vmlinuz-*"),
    "usr/lib/modules/*/vmlinuz",
)
MODULE_FOLDERS = ("lib/modules", "usr/lib/modules", "modules")
DEBUG_FACTOR = 10
PVH_NOTE = 18  # XEN_ELFNOTE_PHYS32_ENTRY: "can be entered as a bare ELF file"


@dataclass(frozen=True)
class Kernel:
    image: Path  # bzImage, or a bare vmlinux
    release: str
    modules: Path | None  # the folder that holds modules.dep
    tree: Path | None = None  # where it was built; None: a distribution has its headers
    stock: bool = False  # the image's own: its modules are there
    debug: bool = False  # it checks itself, and is slow
    held: cache.Entry | None = None  # keeps the folder that it lies in

    @property
    def patience(self) -> int:
        """How much longer than on a stock kernel anything may take."""
        return DEBUG_FACTOR if self.debug else 1

    def holding(self, entry: cache.Entry) -> Kernel:
        """The same, and ``entry`` stays as long as it does."""
        return replace(self, held=entry)


def locate(path: Path, modules: Path | None = None) -> Kernel:
    """The kernel at ``path``: an image, a folder with one, or a distribution's .deb."""
    if not path.exists():
        raise InvalidRequest(f"no kernel at {path}")
    if path.suffix == ".deb":
        return _from_package(path, modules)
    image = _image_in(path) if path.is_dir() else path
    release = release_of(image.read_bytes())
    if release is None:
        raise InvalidRequest(f"{image} is not an x86 Linux kernel (bzImage or vmlinux)")
    if modules is None:
        near = [path, image.parent, image.parent.parent]
        modules = _modules_near([folder for folder in near if folder.is_dir()], release)
    elif not (modules / "modules.dep").is_file():
        found = _modules_near([modules], release)
        if found is None:
            raise InvalidRequest(f"no modules of {release} in {modules} (no modules.dep)")
        modules = found
    tree = path if (path / "Module.symvers").is_file() else None
    return Kernel(image, release, modules, tree, debug=_checks_itself(path / ".config"))


def is_built(folder: Path) -> bool:
    """Whether there is a kernel in it."""
    return any(image for name in IMAGE_NAMES for image in folder.glob(name))


def _checks_itself(config: Path) -> bool:
    if not config.is_file():
        return False
    return bool(re.search(r"^CONFIG_(?:KASAN|PROVE_LOCKING)=y$", config.read_text(), re.MULTILINE))


def _image_in(folder: Path) -> Path:
    found = sorted({image for name in IMAGE_NAMES for image in folder.glob(name)})
    if not found:
        raise InvalidRequest(f"no kernel in {folder} (looked for {', '.join(IMAGE_NAMES)})")
    if len(found) > 1:
        names = ", ".join(str(image.relative_to(folder)) for image in found)
        raise InvalidRequest(f"several kernels in {folder} ({names}): name one of them")
    return found[0]


def _modules_near(folders: list[Path], release: str) -> Path | None:
    for folder in folders:
        for candidate in (*(folder / name / release for name in MODULE_FOLDERS), folder / release):
            if (candidate / "modules.dep").is_file():
                return candidate
    return None


def _from_package(package: Path, modules: Path | None) -> Kernel:
    """A .deb unpacked in the cache. Debian ships modules.dep in none: depmod makes it.

    Where image and modules are packages of their own, ``modules`` is the second one.
    """
    packages = [package]
    if modules is not None and modules.suffix == ".deb":
        packages.append(modules)
        modules = None

    def make(folder: Path) -> None:
        for each in packages:
            with host.progress(f"unpacking {each.name}"):
                host.run(["dpkg-deb", "-x", each, folder], what=f"unpacking {each.name}")
        resolve_modules(folder)

    key = cache.key("kernel package", *(each.read_bytes() for each in packages))
    entry = cache.obtain("package", key, make, keep=4)
    kernel = locate(entry.path, modules)
    return kernel.holding(entry)


def resolve_modules(folder: Path) -> None:
    """Make the modules.dep of every kernel whose package was unpacked there."""
    for tree in MODULE_FOLDERS[:2]:
        for release in (folder / tree).glob("*"):
            base = folder if tree == "lib/modules" else folder / "usr"
            host.run(["depmod", "-b", base, release.name], what="depmod")


def release_of(image: bytes) -> str | None:
    """What `uname -r` will say in it, or None if it is no kernel."""
    if image[0x202:0x206] == b"HdrS":
        (at,) = struct.unpack_from("<H", image, 0x20E)
        return image[at + 0x200 :].split(b" ", 1)[0].decode(errors="replace")
    found = re.search(rb"Linux version (\S+) ", image) if image[:4] == b"\x7fELF" else None
    return found[1].decode(errors="replace") if found else None


def bare(image: bytes) -> bytes | None:
    """The vmlinux inside a bzImage, if QEMU can enter it directly (PVH).

    Unpacking on the host takes half a second, in the guest two under TCG. None where
    it cannot be had: the bzImage boots as well.
    """
    if image[0x202:0x206] != b"HdrS":
        return None
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    vmlinux = _unpack(image[start : start + length])
    return vmlinux if vmlinux and _has_pvh_entry(vmlinux) else None


def _unpack(data: bytes) -> bytes | None:
    # It ends with the unpacked size: of gzip a part, else appended (scripts/Makefile.lib).
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    data = data[:-4]
    if data.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return lzma.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd") and (zstd := host.find("zstd")):
        with tempfile.TemporaryFile() as packed:
            packed.write(data)
            packed.seek(0)
            done = external.run([zstd, "-dqc"], stdin=packed, capture_output=True)
        return None if done.returncode else done.stdout
    return None


def _has_pvh_entry(elf: bytes) -> bool:
    if elf[:5] != b"\x7fELF\x02":
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", elf, table + number * size)
        if kind == 4 and _note(elf[offset : offset + length], b"Xen\0", PVH_NOTE):
            return True
    return False


def _note(notes: bytes, owner: bytes, wanted: int) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name, length, kind = struct.unpack_from("<III", notes, at)
        at += 12
        if kind == wanted and notes[at : at + name] == owner:
            return True
        at += (name + 3 & ~3) + (length + 3 & ~3)
    return False

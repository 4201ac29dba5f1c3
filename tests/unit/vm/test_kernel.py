"""A kernel is found in a file, a folder or a package, with its modules beside it."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vm import host, kernel
from vm.errors import InvalidRequest


def bzimage(release: str, payload: bytes = b"") -> bytes:
    """The least that is a bzImage to us: header, version string, payload."""
    image = bytearray(1024)
    image[0x1F1] = 1  # setup sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x100)
    version = f"{release} (someone@somewhere) #1 SMP".encode()
    image[0x300 : 0x300 + len(version)] = version
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload + b"what follows"


def elf(*, pvh: bool) -> bytes:
    """A 64-bit ELF file with one note segment."""
    note = struct.pack("<III", 4, 4, 18 if pvh else 1) + b"Xen\0" + b"\0" * 4
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 1)
    return bytes(header) + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), 0, 0) + note


def add_modules(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.dep").touch()
    return folder


def test_release_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage("7.3.4-test"))
    found = kernel.locate(path)
    assert (found.image, found.release, found.modules) == (path, "7.3.4-test", None)


def test_release_of_a_bare_vmlinux() -> None:
    assert kernel.release_of(b"\x7fELF...\0Linux version 7.3.4 (gcc)\n") == "7.3.4"


@pytest.mark.parametrize("place", ["lib/modules/7.3", "usr/lib/modules/7.3", "modules/7.3", "7.3"])
def test_modules_beside_it(tmp_path: Path, place: str) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage("7.3"))
    modules = add_modules(tmp_path / place)
    assert kernel.locate(tmp_path / "vmlinuz").modules == modules
    assert kernel.locate(tmp_path).modules == modules


def test_an_installed_kernel(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-7.3").write_bytes(bzimage("7.3"))
    modules = add_modules(tmp_path / "lib/modules/7.3")
    assert kernel.locate(tmp_path / "boot/vmlinuz-7.3").modules == modules
    assert kernel.locate(tmp_path).image == tmp_path / "boot/vmlinuz-7.3"


def test_a_build_tree(tmp_path: Path) -> None:
    (tmp_path / "arch/x86/boot").mkdir(parents=True)
    (tmp_path / "arch/x86/boot/bzImage").write_bytes(bzimage("7.3-dev"))
    assert kernel.locate(tmp_path).release == "7.3-dev"


def test_modules_named(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage("7.3"))
    modules = add_modules(tmp_path / "elsewhere/lib/modules/7.3")
    for named in (modules, tmp_path / "elsewhere"):
        assert kernel.locate(tmp_path / "vmlinuz", named).modules == modules
    with pytest.raises(InvalidRequest, match=r"no modules of 7\.3"):
        kernel.locate(tmp_path / "vmlinuz", tmp_path / "boot")


@pytest.mark.parametrize(
    ("files", "reason"),
    [({}, "no kernel in"), ({"vmlinuz-1": "1", "vmlinuz-2": "2"}, "several kernels")],
)
def test_a_folder_without_one_kernel(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    for name, release in files.items():
        (tmp_path / name).write_bytes(bzimage(release))
    with pytest.raises(InvalidRequest, match=reason):
        kernel.locate(tmp_path)


def test_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no kernel at"):
        kernel.locate(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"#!/bin/sh\n" + bytes(600))
    with pytest.raises(InvalidRequest, match="not an x86 Linux kernel"):
        kernel.locate(tmp_path / "file")


def xz_with_size(data: bytes) -> bytes:
    return lzma.compress(data) + struct.pack("<I", len(data))


@pytest.mark.parametrize("compress", [gzip.compress, xz_with_size])
def test_bare_takes_what_qemu_can_enter(compress: Callable[[bytes], bytes]) -> None:
    vmlinux = elf(pvh=True)
    assert kernel.bare(bzimage("7.3", compress(vmlinux))) == vmlinux
    assert kernel.bare(bzimage("7.3", compress(elf(pvh=False)))) is None


def test_bare_knows_when_it_cannot() -> None:
    vmlinux = elf(pvh=True)
    assert kernel.bare(bzimage("7.3", b"unknown compression")) is None
    assert kernel.bare(vmlinux) is None


@pytest.mark.skipif(
    not host.find("dpkg-deb") or not host.find("depmod"),
    reason="expected: no dpkg-deb or depmod here",
)
@pytest.mark.parametrize("split", [False, True], ids=["one package", "modules apart"])
def test_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: bool) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image, modules = tmp_path / "image", tmp_path / "modules" if split else tmp_path / "image"
    for name in {image, modules}:
        (name / "DEBIAN").mkdir(parents=True)
        (name / "DEBIAN/control").write_text(
            f"Package: {name.name}\nVersion: 1\nArchitecture: amd64\n"
            "Maintainer: none <none@example.org>\nDescription: test\n"
        )
    (image / "boot").mkdir()
    (image / "boot/vmlinuz-7.3").write_bytes(bzimage("7.3"))
    (modules / "usr/lib/modules/7.3/kernel").mkdir(parents=True)
    for name in {image, modules}:
        subprocess.run(
            ["dpkg-deb", "--build", name, f"{name}.deb"], check=True, capture_output=True
        )
    second = Path(f"{modules}.deb") if split else None
    found = kernel.locate(Path(f"{image}.deb"), second)
    assert found.release == "7.3"
    assert found.modules is not None
    assert (found.modules / "modules.dep").is_file()  # by depmod: no package has it

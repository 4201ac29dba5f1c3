"""The archives are what cpio and the kernel read."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from vm import cpio


@pytest.fixture
def reader() -> list[str]:
    for command in (["cpio"], ["busybox", "cpio"]):
        if shutil.which(command[0]):
            return command
    pytest.skip("expected: neither cpio nor busybox is installed here")


MEMBERS = [
    cpio.folder("bin"),
    cpio.program("bin/tool", b"#!/bin/sh\n"),
    cpio.Member("odd", b"12345"),
    cpio.Member("link", b"bin/tool", stat.S_IFLNK | 0o777),
]


def test_cpio_lists_it(reader: list[str]) -> None:
    listed = subprocess.run(
        [*reader, "-t"], input=cpio.archive(MEMBERS), capture_output=True, check=True
    )
    assert listed.stdout.decode().split() == ["bin", "bin/tool", "odd", "link"]


def test_cpio_unpacks_it(reader: list[str], tmp_path: Path) -> None:
    archive = cpio.archive(MEMBERS)
    subprocess.run([*reader, "-i"], input=archive, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "odd").read_bytes() == b"12345"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "link").readlink() == Path("bin/tool")


def test_header_by_hand() -> None:
    archive = cpio.archive([cpio.Member("a", b"xyz")])
    assert archive[:6] == b"070701"
    assert int(archive[14:22], 16) == stat.S_IFREG | 0o644
    assert int(archive[54:62], 16) == 3  # file size
    assert int(archive[94:102], 16) == 2  # name and its NUL
    assert archive[110:112] == b"a\0"
    assert archive[112:116] == b"xyz\0"  # padded to four
    assert len(archive) % 4 == 0
    assert b"TRAILER!!!" in archive


def test_equal_input_gives_equal_bytes() -> None:
    assert cpio.archive(MEMBERS) == cpio.archive(list(MEMBERS))


def test_a_tree_brings_its_folders_first(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/code.py").write_text("x = 1\n")
    (tmp_path / "notes.txt").write_text("not asked for")
    members = cpio.tree(tmp_path, "agent")
    assert [member.name for member in members] == ["agent", "agent/sub", "agent/sub/code.py"]
    assert members[-1].data == b"x = 1\n"

"""Archives for the kernel's initramfs: the "newc" format of cpio.

Kernel: Documentation/driver-api/early-userspace/buffer-format.rst. Several archives may
follow each other, so the parts that change less often can be kept ready.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Member(NamedTuple):
    name: str  # relative, without a leading slash
    data: bytes = b""
    mode: int = stat.S_IFREG | 0o644


def folder(name: str) -> Member:
    return Member(name, mode=stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> Member:
    return Member(name, data, stat.S_IFREG | 0o755)


def tree(source: Path, target: str, pattern: str = "**/*.py") -> list[Member]:
    """The files below ``source`` that match, under ``target``, with their folders."""
    files = sorted(source.glob(pattern))
    folders = {parent for file in files for parent in file.relative_to(source).parents}
    members = [folder(str(Path(target) / path)) for path in sorted(folders)]
    return members + [
        Member(str(target / file.relative_to(source)), file.read_bytes()) for file in files
    ]


def archive(members: Iterable[Member]) -> bytes:
    """All of it, owned by root and without times: equal input gives equal bytes."""
    out = bytearray()
    for inode, member in enumerate(members, start=1):
        out += _entry(inode, member)
    out += _entry(0, Member("TRAILER!!!", mode=0))
    return bytes(out)


def _entry(inode: int, member: Member) -> bytes:
    name = member.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (inode, member.mode, 0, 0, links, 0, len(member.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name) + _padded(member.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

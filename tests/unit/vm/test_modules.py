"""Modules are loaded after what they need, and a kernel that lacks one is told so."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from vm import modules
from vm.errors import InvalidRequest

DEPENDENCIES = """\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
kernel/net/9p/9pnet.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/sound/snd.ko.xz:
"""
BUILTIN = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\n"


def test_order() -> None:
    order = [modules.plain(path) for path in modules.load_order(DEPENDENCIES, BUILTIN, "7.3")]
    assert sorted(order) == sorted(
        ["ext4", "jbd2", "mbcache", "virtio_blk", "9pnet", "9pnet_virtio", "9p"]
    )
    for before, after in [("jbd2", "ext4"), ("mbcache", "ext4"), ("9pnet", "9p")]:
        assert order.index(before) < order.index(after)


def test_what_is_missing_is_named_with_its_option() -> None:
    with pytest.raises(InvalidRequest, match=r"7\.3 .*virtio_console.*CONFIG_VIRTIO_CONSOLE"):
        modules.load_order(DEPENDENCIES, "kernel/drivers/virtio/virtio_pci.ko\n", "7.3")


def test_crc32c_comes_first_where_it_is_a_module() -> None:
    more = f"kernel/crypto/crc32c_generic.ko.xz:\n{DEPENDENCIES}"
    assert modules.load_order(more, BUILTIN, "6.1")[0].endswith("crc32c_generic.ko.xz")


def test_dashes_are_underscores() -> None:
    assert modules.plain("kernel/lib/virtio-rng.ko.zst") == "virtio_rng"


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_read_unpacks(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.ko{suffix}"
    path.write_bytes(lzma.compress(b"module") if suffix else b"module")
    assert modules.read(path) == b"module"

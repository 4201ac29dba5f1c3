"""The command line says what was asked for, and nothing of the host leaks in."""

from __future__ import annotations

import json
import platform
from itertools import pairwise
from pathlib import Path

import pytest

from vm import qemu, tsc
from vm.config import Config, Share

WIRING = qemu.Wiring(initramfs=5, console=6, channel=7)
PROGRAM = ("/q/loader", "qemu")


def command(config: Config, shares: list[Share] | None = None, *, kvm: bool = False) -> list[str]:
    return qemu.command(
        config,
        kernel=Path("/k/kernel"),
        disk=Path("/c/root,1.ext4"),
        shares=shares or [],
        wiring=WIRING,
        program=PROGRAM,
        kvm=kvm,
    )


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def test_plain() -> None:
    argv = command(Config(memory_mib=1024, cpus=3))
    assert tuple(argv[:2]) == PROGRAM
    assert values(argv, "-m") == ["1024"]
    assert values(argv, "-smp") == ["3"]
    assert values(argv, "-kernel") == ["/k/kernel"]
    assert values(argv, "-initrd") == ["/proc/self/fd/5"]
    assert "-no-reboot" in argv
    assert not values(argv, "-netdev") + values(argv, "-nic")
    assert not [value for value in values(argv, "-device") if "vfio" in value]


def test_the_image_stays_as_it_is() -> None:
    root, spare = values(command(Config()), "-drive")
    assert "snapshot=on" in root
    assert "file=/c/root,,1.ext4," in root  # commas doubled
    assert "driver=null-co" in spare
    assert "snapshot=on" in spare


def test_the_fds_are_handed_over() -> None:
    argv = command(Config())
    chardevs = values(argv, "-chardev")
    assert any("fd=7" in each and each.startswith("socket") for each in chardevs)
    assert any("/proc/self/fd/6" in each for each in chardevs)
    assert WIRING.fds == [5, 6, 7]


@pytest.mark.parametrize(
    ("kvm", "accel", "cpu"),
    [
        (True, "kvm", "host"),
        (False, "tcg,thread=multi", "max,-erms,-fsrm,family=15,model=107,stepping=1"),
    ],
)
def test_accelerator(kvm: bool, accel: str, cpu: str) -> None:
    argv = command(Config(), kvm=kvm)
    assert (values(argv, "-accel"), values(argv, "-cpu")) == ([accel], [cpu])


def test_kernel_parameters() -> None:
    (line,) = values(command(Config(append="lockdep foo=bar")), "-append")
    words = line.split()
    assert words[-2:] == ["lockdep", "foo=bar"]  # last: they override ours
    assert {"console=ttyS0", "panic=-1", "loglevel=5", "printk.devkmsg=on"} <= set(words)
    assert all(qemu.COMMAND_LINE.values()), "every parameter has its reason"


@pytest.mark.parametrize("kvm", [True, False])
def test_an_emulated_guest_is_told_how_fast_its_counter_counts(
    kvm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsc, "khz", lambda: 2_600_000)
    (line,) = values(command(Config(append="foo"), kvm=kvm), "-append")
    assert ("tsc_early_khz=2600000" in line.split()) is not kvm
    monkeypatch.setattr(tsc, "khz", lambda: None)
    (line,) = values(command(Config(append="foo"), kvm=kvm), "-append")
    assert "tsc_early_khz" not in line


@pytest.mark.skipif(platform.machine() != "x86_64", reason="expected: counts on x86 only")
def test_the_counter_is_measured_alike() -> None:
    found = []
    for _ in range(3):
        tsc.khz.cache_clear()
        found.append(tsc.khz())
    assert None not in found
    assert max(found) - min(found) <= max(found) // 1000  # type: ignore[type-var,operator]


def test_shares(tmp_path: Path) -> None:
    argv = command(Config(), [Share(tmp_path, "/a"), Share(Path("/x,y"), "/b", writable=True)])
    readonly, writable = values(argv, "-virtfs")
    assert f"path={tmp_path},mount_tag=share0," in readonly
    assert readonly.endswith("readonly=on")
    assert "path=/x,,y,mount_tag=share1," in writable
    assert "readonly" not in writable


def test_vfio() -> None:
    argv = command(Config(vfio=("0000:3b:00.0", "0000:3b:00.1")))
    devices = values(argv, "-device")
    assert "vfio-pci,host=0000:3b:00.0,bus=slot0" in devices
    assert "vfio-pci,host=0000:3b:00.1,bus=slot1" in devices
    assert len([each for each in devices if each.startswith("pcie-root-port")]) == 2


def test_a_probe_has_neither_disk_nor_agent() -> None:
    argv = qemu.base(
        Path("/k"), qemu.Wiring(5, 6), program=PROGRAM, kvm=True, append="pyzcrx.probe"
    )
    assert values(argv, "-append")[0].endswith("pyzcrx.probe")
    assert not values(argv, "-drive") + values(argv, "-device")
    assert values(argv, "-accel") == ["kvm"]


def test_plugins() -> None:
    assert not values(command(Config()), "-plugin")
    argv = command(Config(plugins=("/c/count.so,out=/t/o", "/b.so")))
    assert values(argv, "-plugin") == ["/c/count.so,out=/t/o", "/b.so"]


def test_gvnics() -> None:
    """Their memory is shared, with the size of the guest's."""
    argv = qemu.command(
        Config(memory_mib=1024),
        kernel=Path("/k/kernel"),
        disk=Path("/d"),
        shares=[],
        wiring=qemu.Wiring(5, 6, 7, 8),
        program=PROGRAM,
        kvm=False,
        gvnics=(Path("/s/nic0"), Path("/s/nic1")),
    )
    assert "memory-backend-memfd,id=memory,size=1024M,share=on" in values(argv, "-object")
    devices = [json.loads(each) for each in values(argv, "-device") if each.startswith("{")]
    assert [each["driver"] for each in devices] == ["vfio-user-pci"] * 2
    assert [each["socket"]["path"] for each in devices] == ["/s/nic0", "/s/nic1"]
    assert "virtserialport,chardev=gve,name=pyzcrx.gve" in values(argv, "-device")
    assert qemu.Wiring(5, 6, 7, 8).fds == [5, 6, 7, 8]

"""Shares and PCI devices: what is accepted, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.config import Share, check_vfio
from vm.errors import InvalidRequest


@pytest.mark.parametrize(
    ("suffix", "guest", "writable"),
    [
        ("", None, False),
        (":/data", "/data", False),
        (":/data:rw", "/data", True),
        (":/data:ro", "/data", False),
        (":rw", None, True),
    ],
)
def test_share(tmp_path: Path, suffix: str, guest: str | None, writable: bool) -> None:
    share = Share.parse(f"{tmp_path}{suffix}")
    assert share == Share(tmp_path, guest or str(tmp_path), writable)
    assert share.mount_options.split(",")[-1] == ("rw" if writable else "ro")


def test_share_of_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rw").mkdir()
    assert Share.parse("rw").host == tmp_path / "rw"  # a folder of that name, not a mode


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/nowhere/at/all", "no such folder"),
        ("", "is not HOST"),
        (":/data", "is not HOST"),
        ("{here}:data", "no absolute path"),
        ("{here}:/", "no absolute path"),
        ("{here}:/data:rx", "is not HOST"),
    ],
)
def test_bad_share(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        Share.parse(text.format(here=tmp_path))


class Pci:
    """A stand-in for /sys/bus/pci."""

    def __init__(self, root: Path) -> None:
        self.devices = root / "devices"
        self.root = root

    def add(self, address: str, driver: str | None, *, iommu: bool = True) -> None:
        device = self.devices / address
        device.mkdir(parents=True)
        if iommu:
            (device / "iommu_group").mkdir()
        if driver:
            (self.root / "drivers" / driver).mkdir(parents=True)
            (device / "driver").symlink_to(self.root / "drivers" / driver)


@pytest.fixture
def pci(tmp_path: Path) -> Pci:
    return Pci(tmp_path)


@pytest.mark.parametrize("address", ["0000:3b:00.1", "3b:00.1"])
def test_vfio_device_in_order(pci: Pci, address: str) -> None:
    pci.add("0000:3b:00.1", "vfio-pci")
    assert check_vfio(address, pci.devices) == "0000:3b:00.1"


@pytest.mark.parametrize("driver", ["mlx5_core", None])
def test_vfio_bound_elsewhere_says_how_to_bind(pci: Pci, driver: str | None) -> None:
    pci.add("0000:3b:00.0", driver)
    with pytest.raises(InvalidRequest, match=driver or "no driver") as caught:
        check_vfio("3b:00.0", pci.devices)
    hint = "\n".join(caught.value.details)
    assert f"echo vfio-pci > {pci.devices}/0000:3b:00.0/driver_override" in hint
    assert ("/driver/unbind" in hint) == (driver is not None)
    assert "drivers_probe" in hint


def test_vfio_without_iommu(pci: Pci) -> None:
    pci.add("0000:3b:00.0", "vfio-pci", iommu=False)
    with pytest.raises(InvalidRequest, match="IOMMU"):
        check_vfio("0000:3b:00.0", pci.devices)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("3b:00.0", "no PCI device"), ("eth0", "no PCI address"), ("3b:00.0,x=y", "no PCI address")],
)
def test_vfio_bad_address(pci: Pci, address: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        check_vfio(address, pci.devices)

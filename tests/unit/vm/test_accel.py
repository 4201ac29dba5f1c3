"""KVM is used where a boot proved it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import accel


class Probe:
    def __init__(self, works: bool) -> None:
        self.works = works
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.works


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with its own cache, boot id and an openable device."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(accel, "BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("one")
    (tmp_path / "kvm-device").touch()
    return tmp_path


def usable(machine: Path, probe: Probe, kernel: str = "kernel", version: str = "11.1") -> bool:
    return accel.usable(accel.Verdict(kernel, version), probe, machine / "kvm-device")


@pytest.mark.parametrize("works", [True, False])
def test_probed_once(machine: Path, works: bool) -> None:
    probe = Probe(works)
    assert [usable(machine, probe) for _ in range(3)] == [works] * 3
    assert probe.calls == 1


def test_no_device_no_probe(machine: Path) -> None:
    probe = Probe(True)
    assert not accel.usable(accel.Verdict("kernel", "11.1"), probe, machine / "absent")
    assert probe.calls == 0


def test_a_verdict_is_taken_back(machine: Path) -> None:
    probe = Probe(True)
    assert usable(machine, probe)
    accel.Verdict("kernel", "11.1").remember(False)
    assert not usable(machine, probe)
    assert probe.calls == 1


@pytest.mark.parametrize("change", ["kernel", "boot", "qemu"])
def test_a_verdict_holds_for_what_it_was_made_with(machine: Path, change: str) -> None:
    probe = Probe(True)
    usable(machine, probe)
    if change == "boot":
        (machine / "boot_id").write_text("two")
    kernel = "other" if change == "kernel" else "kernel"
    usable(machine, probe, kernel, "11.2" if change == "qemu" else "11.1")
    assert probe.calls == 2

"""The guests' QEMU: run by its own loader, made again if damaged, refused if too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import bootstrap, emulator
from vm.errors import BuildFailed


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was asked of the archive; an unpacked QEMU is a script in the place of the loader."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[list[str]] = []

    def make(folder: Path, packages: list[str], _hook: str, **options: object) -> None:
        assert options["install"] is False
        asked.append(packages)
        loader = folder / emulator.LIBRARIES / "ld-linux-x86-64.so.2"
        loader.parent.mkdir(parents=True)
        bad = int(folder.joinpath("old").exists())
        loader.write_text(f"#!/bin/sh\necho QEMU emulator version 10.0.2 '(Debian)'\nexit {bad}\n")
        loader.chmod(0o755)

    monkeypatch.setattr(bootstrap, "make", make)
    return asked


def test_it_runs_by_its_own_loader_and_is_made_once(made: list[list[str]]) -> None:
    first = emulator.obtain()
    root = first.entry.path
    assert first.argv[:2] == ("env", f"QEMU_MODULE_DIR={root}/usr/lib/x86_64-linux-gnu/qemu")
    assert first.argv[2] == f"{root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert emulator.obtain().argv == first.argv
    assert len(made) == 1
    assert all(package.endswith(f"/{bootstrap.BACKPORTS}") for package in made[0])


def test_it_tells_its_version(made: list[list[str]]) -> None:
    assert emulator.obtain().version == "10.0.2"
    assert len(made) == 1


def test_a_damaged_one_is_made_again(made: list[list[str]]) -> None:
    root = emulator.obtain().entry.path
    (root / emulator.LIBRARIES / "ld-linux-x86-64.so.2").unlink()
    emulator.obtain()
    assert len(made) == 2


def test_one_that_is_too_old_is_not_kept(
    made: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = bootstrap.make

    def old(folder: Path, *arguments: object, **options: object) -> None:
        (folder / "old").touch()
        original(folder, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bootstrap, "make", old)
    for _ in range(2):
        with pytest.raises(BuildFailed, match=r"10\.1 or newer is needed"):
            emulator.obtain()
    assert len(made) == 2
    assert emulator.main() == BuildFailed.exit_code
    assert "10.1 or newer is needed" in capsys.readouterr().err


def test_packages_are_unpacked_only() -> None:
    argv = bootstrap.command(None, ["q"], "true", (), as_root=True, install=False)
    assert "--variant=extract" in argv
    assert "--extract-hook=true" in argv

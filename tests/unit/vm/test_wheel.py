"""Which wheel the guest gets, and when it is built anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import wheel
from vm.errors import BuildFailed, InvalidRequest


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, and a pip that only counts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "checkout"
    (root / "pyzcrx/__pycache__").mkdir(parents=True)
    (root / "csrc").mkdir()
    (root / "pyproject.toml").touch()
    (root / "pyzcrx/ring.py").touch()
    (root / "pyzcrx/__pycache__/ring.pyc").touch()
    (root / "csrc/shim.c").touch()
    monkeypatch.setattr(wheel, "ROOT", root)
    install_liburing(tmp_path, "2.14")
    monkeypatch.setenv("PKG_CONFIG_PATH", str(tmp_path))
    return root


def install_liburing(folder: Path, version: str) -> None:
    """As far as pkg-config can tell."""
    text = f"Name: liburing\nDescription: io_uring\nVersion: {version}\n"
    (folder / "liburing.pc").write_text(text)


class Pip:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path, pkg_config: str) -> None:
        del pkg_config
        self.calls += 1
        (folder / "pyzcrx-0.whl").touch()


def test_none_and_a_path(tmp_path: Path) -> None:
    (tmp_path / "x.whl").touch()
    assert wheel.obtain("none") is None
    assert wheel.obtain(str(tmp_path / "x.whl")) == (tmp_path / "x.whl", None)


@pytest.mark.parametrize("name", ["absent.whl", "present.zip"])
def test_no_wheel(tmp_path: Path, name: str) -> None:
    (tmp_path / "present.zip").touch()
    with pytest.raises(InvalidRequest, match="no wheel at"):
        wheel.obtain(str(tmp_path / name))


def test_sources(checkout: Path) -> None:
    names = {str(path.relative_to(checkout)) for path in wheel.sources(checkout)}
    assert names == {"pyproject.toml", "pyzcrx/ring.py", "csrc/shim.c"}


@pytest.mark.parametrize(
    ("change", "builds"),
    [("pyzcrx/ring.py", 2), ("csrc/new.h", 2), ("pyproject.toml", 2), ("README.txt", 1)],
)
def test_built_anew_when_a_source_changes(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, change: str, builds: int
) -> None:
    pip = Pip()
    monkeypatch.setattr(wheel, "_build", pip)
    first = wheel.obtain("auto")
    assert first
    assert first[0].name == "pyzcrx-0.whl"
    wheel.obtain("auto")
    assert pip.calls == 1
    (checkout / change).write_text("changed")
    wheel.obtain("auto")
    assert pip.calls == builds


def test_built_anew_when_liburing_changes(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del checkout
    pip = Pip()
    monkeypatch.setattr(wheel, "_build", pip)
    for version, builds in (("2.14", 1), ("2.15", 2), ("2.14", 2)):
        install_liburing(tmp_path, version)
        wheel.obtain("auto")
        assert pip.calls == builds


def test_a_failed_build_shows_its_last_lines(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = checkout / "scripts/get-liburing"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.delenv("PKG_CONFIG_PATH", raising=False)
    with pytest.raises(BuildFailed, match="getting liburing failed") as caught:
        wheel.obtain("auto")
    assert caught.value.details == ("no network",)

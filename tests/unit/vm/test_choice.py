"""What --kernel and --debug mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import archive, bootstrap, choice, image, kbuild
from vm.choice import choose
from vm.errors import BuildFailed, InvalidRequest, NotOffered
from vm.kernel import Kernel

from .test_kernel import bzimage

SOURCE_FILES = ("Kconfig", "Makefile", "arch/x86/Makefile")


def source(folder: Path) -> Path:
    for name in SOURCE_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bool]]:
    """Trees that were to be built, and whether with the kernel's checks."""
    asked: list[tuple[Path, bool]] = []

    def of_tree(tree: Path, *, debug: bool, rebuild: bool) -> Kernel:
        assert not rebuild
        asked.append((tree, debug))
        return Kernel(tree / "bzImage", "7.3", None, tree)

    monkeypatch.setattr(kbuild, "of_tree", of_tree)
    return asked


def test_a_source_tree_is_built(tmp_path: Path, built: list[tuple[Path, bool]]) -> None:
    source(tmp_path)
    choose(tmp_path)
    choose(str(tmp_path), debug=True)
    assert built == [(tmp_path, False), (tmp_path, True)]


def test_a_tree_with_a_kernel_is_booted_as_it_is(
    tmp_path: Path, built: list[tuple[Path, bool]]
) -> None:
    source(tmp_path)
    built_image = tmp_path / "arch/x86/boot/bzImage"
    built_image.parent.mkdir()
    built_image.write_bytes(bzimage("7.3-mine"))
    assert choose(tmp_path).release == "7.3-mine"
    assert built == []


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no kernel at"):
        choose(str(tmp_path / "absent"))


def test_a_kernel_stays_what_it_is(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "vmlinuz", "7.3", None)
    assert choose(kernel, debug=True) is kernel


def test_stock_has_its_modules_in_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage("7.3.4"))

    class Image:
        vmlinuz = tmp_path / "vmlinuz"
        entry = None

    monkeypatch.setattr(image, "obtain", lambda **_: Image)
    assert choose(choice.STOCK).stock
    assert choose() == choose("stock")


def test_debug_wants_a_source(built: list[tuple[Path, bool]]) -> None:
    with pytest.raises(InvalidRequest, match="builds from source"):
        choose("debian:7.2", debug=True)
    assert built == []


def test_debug_of_the_distribution_is_of_the_stock_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = Kernel(tmp_path, "7.3.4+deb13-amd64", None, stock=True)
    checked = Kernel(tmp_path, "7.3.4-debug", None, debug=True)

    def of_distribution(release: str, *, debug: bool, rebuild: bool) -> Kernel:
        assert (release, debug, rebuild) == (stock.release, True, False)
        return checked

    monkeypatch.setattr(choice, "_stock", lambda **_: stock)
    monkeypatch.setattr(kbuild, "of_distribution", of_distribution)
    assert choose(debug=True) is checked


@pytest.mark.parametrize(
    ("wanted", "debug"), [(None, False), ("stock", False), ("debian:7.2", False), ("/x", True)]
)
def test_modules_without_their_kernel(wanted: str | None, debug: bool) -> None:
    with pytest.raises(InvalidRequest, match="--modules goes with"):
        choose(wanted, Path("/lib/modules"), debug=debug)


@pytest.mark.parametrize("version", ["", "7", "7.2.", "latest", "7.2; true", "7.2.*"])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(InvalidRequest, match="no kernel version"):
        choose(f"debian:{version}")


def test_what_the_archive_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(*_: object, env: dict[str, str]) -> None:
        assert env == {"VERSION": "5.0"}
        raise BuildFailed("mmdebstrap failed (status 25)", ["apt said this", archive.NONE])

    monkeypatch.setattr(bootstrap, "make", make)
    with pytest.raises(NotOffered, match=r"trixie and trixie-backports have no kernel 5\.0"):
        choose("debian:5.0")


def test_an_archive_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(*_: object, **__: object) -> None:
        raise BuildFailed("mmdebstrap failed (status 100)", ["no network"])

    monkeypatch.setattr(bootstrap, "make", make)
    with pytest.raises(BuildFailed) as caught:
        choose("debian:7.2")
    assert not isinstance(caught.value, NotOffered)


def test_series_of_a_release() -> None:
    assert archive.series("7.3.4+deb13-amd64") == "7.3"
    assert archive.series("7.3-rc1") == "7.3"
    with pytest.raises(InvalidRequest, match="no kernel release"):
        archive.series("linux")

"""What modules are made from, and for which kernels they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import module
from vm.errors import InvalidRequest
from vm.kernel import Kernel


def built(tree: Path) -> Kernel:
    (tree / "Module.symvers").touch()
    return Kernel(tree / "bzImage", "7.3", None, tree)


def test_the_card_is_made_from_all_its_files() -> None:
    folder = module.ZCRXSIM.script.parent
    names = {path.name for path in module.sources(folder)}
    kbuild = (folder / "Kbuild").read_text()
    for name in names - {"Kbuild", "Makefile"}:
        assert name.endswith(".h") or name.replace(".c", ".o") in kbuild


def test_the_scripts_can_be_run() -> None:
    for each in (module.ZCRXSIM, module.NETDEVSIM):
        assert each.script.stat().st_mode & 0o111, each.name


def test_a_tree_without_netdevsim(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no sources of netdevsim"):
        module.obtain(module.NETDEVSIM, built(tmp_path))


def test_netdevsim_of_a_tree_built_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = tmp_path / "source/drivers/net/netdevsim"
    sources.mkdir(parents=True)
    for name in ("Makefile", "netdev.c", "netdevsim.h"):
        (sources / name).write_text(name)

    def make(_module: module.Module, _kernel: Kernel, work: Path, folder: Path) -> None:
        assert {path.name for path in work.iterdir()} == {"Makefile", "netdev.c", "netdevsim.h"}
        (folder / "netdevsim.ko").touch()

    monkeypatch.setattr(module, "_make_in_tree", make)
    made = module.obtain(module.NETDEVSIM, built(tmp_path)).path
    assert {path.name for path in made.iterdir()} == {"netdevsim.ko", "load", "manifest.json"}

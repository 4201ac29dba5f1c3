"""Kernels are built outside their tree, and again only when it has changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vm import archive, host, kbuild
from vm.errors import BuildFailed, InvalidRequest, ToolMissing
from vm.kernel import Kernel

from .test_kernel import bzimage

MAKEFILE = """\
VERSION = 7
PATCHLEVEL = 3
TOP := $(CURDIR)

allnoconfig:
\tgrep -v LOST $(KCONFIG_ALLCONFIG) >$(O)/.config
bzImage:
\ttest ! -e broken || { echo "net/core/dev.c:1: error: of a test" >&2; false; }
\tmkdir -p $(O)/arch/x86/boot
\tcp image $(O)/arch/x86/boot/bzImage
\techo once >>$(O)/times
modules:
\ttouch $(O)/Module.symvers
modules_install:
\tmkdir -p $(INSTALL_MOD_PATH)/lib/modules/7.3
\ttouch $(INSTALL_MOD_PATH)/lib/modules/7.3/modules.dep
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The least that is a kernel tree to us, in git."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kbuild, "_check_tools", lambda: None)
    folder = tmp_path / "linux"
    (folder / "arch/x86").mkdir(parents=True)
    (folder / "arch/x86/Makefile").touch()
    (folder / "Kconfig").touch()
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "image").write_bytes(bzimage("7.3"))
    git(folder, "init", "-q")
    commit(folder)
    return folder


def git(tree: Path, *argv: str) -> None:
    user = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", tree, *user, *argv], check=True, capture_output=True)


def commit(tree: Path) -> None:
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "--allow-empty", "-m", "state")


def times(kernel: Kernel) -> int:
    """How often it was built."""
    assert kernel.tree
    return len((kernel.tree / "times").read_text().splitlines())


def test_what_is_built(tree: Path) -> None:
    before = sorted(tree.rglob("*"))
    kernel = kbuild.of_tree(tree)
    assert kernel.release == "7.3"
    assert kernel.modules
    assert (kernel.modules / "modules.dep").is_file()
    assert not kernel.debug
    assert sorted(tree.rglob("*")) == before


def test_built_once_for_each_state(tree: Path) -> None:
    assert times(kbuild.of_tree(tree)) == 1
    assert times(kbuild.of_tree(tree)) == 1
    (tree / "Kconfig").write_text("changed")
    assert times(kbuild.of_tree(tree)) == 2
    assert times(kbuild.of_tree(tree)) == 2
    commit(tree)
    assert times(kbuild.of_tree(tree)) == 3
    (tree / "new.c").touch()
    assert times(kbuild.of_tree(tree)) == 4
    assert times(kbuild.of_tree(tree, rebuild=True)) == 1


def test_without_git_make_decides(tree: Path) -> None:
    (tree / ".git").rename(tree / "not-git")
    assert times(kbuild.of_tree(tree)) == 1
    assert times(kbuild.of_tree(tree)) == 2


def test_debug_is_a_kernel_of_its_own(tree: Path) -> None:
    plain, checked = kbuild.of_tree(tree), kbuild.of_tree(tree, debug=True)
    assert plain.tree != checked.tree
    assert checked.debug
    assert (plain.patience, checked.patience) == (1, 10)
    assert times(plain) == times(checked) == 1


def test_the_distributions_own_is_unpacked_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = []

    def unpack(release: str, folder: Path) -> None:
        unpacked.append(release)
        shutil.copytree(tree, folder, dirs_exist_ok=True)

    monkeypatch.setattr(archive, "unpack", unpack)
    assert not kbuild.has_distribution("7.3-deb", debug=True)
    for _ in range(2):
        assert times(kbuild.of_distribution("7.3-deb", debug=True)) == 1
    assert unpacked == ["7.3-deb"]
    assert kbuild.has_distribution("7.3-deb", debug=True)
    assert not kbuild.has_distribution("7.3-deb", debug=False)


def test_a_tree_in_use_is_not_rebuilt(tree: Path) -> None:
    """Two guests may share a kernel; neither waits for the other."""
    first = kbuild.of_tree(tree)
    second = kbuild.of_tree(tree)
    assert first.image == second.image
    assert first.held is not None
    assert second.held is not None


def test_a_build_that_fails(tree: Path) -> None:
    (tree / "broken").touch()
    with pytest.raises(BuildFailed, match="cannot be built") as caught:
        kbuild.of_tree(tree)
    assert "net/core/dev.c:1: error: of a test" in caught.value.details
    (tree / "broken").unlink()
    assert times(kbuild.of_tree(tree)) == 1


def test_a_tree_that_lacks_an_option(tree: Path) -> None:
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("LOST", "IO_URING_ZCRX"))
    with pytest.raises(InvalidRequest, match=r"cannot be configured with CONFIG_IO_URING_ZCRX"):
        kbuild.of_tree(tree)


@pytest.mark.parametrize("trace", [".config", "include/config/auto.conf"])
def test_a_tree_that_was_built_in_place(tree: Path, trace: str) -> None:
    (tree / trace).parent.mkdir(parents=True, exist_ok=True)
    (tree / trace).touch()
    with pytest.raises(InvalidRequest, match="worktree add"):
        kbuild.of_tree(tree)


def test_no_source_tree(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no kernel source tree"):
        kbuild.of_tree(tmp_path)


def test_old_builds_go(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kbuild, "KEEP", 1)
    first = kbuild.of_tree(tree).tree
    assert first
    second = kbuild.of_tree(tree, debug=True).tree
    assert second
    assert not first.exists()
    assert second.exists()


def test_options_of_several_texts() -> None:
    assert kbuild.options("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n", "CONFIG_B=y\n") == {
        "A": "y",
        "B": "y",
        "C": "n",
    }


def test_the_trees_own_selftests_have_a_say_and_we_the_last(tree: Path) -> None:
    theirs = tree / "tools/testing/selftests/drivers/net/config"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("CONFIG_OF_THEIRS=m\nCONFIG_EXT4_FS=m\nCONFIG_DEBUG_INFO_BTF=y\n")
    wanted = kbuild.wanted(tree, debug=False)
    assert wanted["OF_THEIRS"] == "m"
    assert wanted["EXT4_FS"] == "y"
    assert "DEBUG_INFO_BTF" not in wanted
    assert "KASAN" not in wanted
    assert kbuild.wanted(tree, debug=True)["KASAN"] == "y"


def test_the_fragments_are_well_formed() -> None:
    """Each line is an option, a comment or nothing, and no option stands twice."""
    for fragment in (kbuild.GUEST, kbuild.DEBUG):
        lines = fragment.read_text().splitlines()
        names = [line.partition("=")[0] for line in lines if line and not line.startswith("# ")]
        assert len(names) == len(set(names)) == len(kbuild.options(fragment.read_text()))


def test_all_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A compiler that finds no header, and nothing else."""
    gcc = tmp_path / "gcc"
    gcc.write_text("#!/bin/sh\nexit 1\n")
    gcc.chmod(0o755)
    monkeypatch.setattr(host, "SEARCH_PATH", str(tmp_path))
    message = r"gelf\.h are not installed: apt-get install make flex bison bc libelf-dev$"
    with pytest.raises(ToolMissing, match=message):
        kbuild._check_tools()

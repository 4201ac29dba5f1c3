"""Kernels built from source for the guest: outside the source tree, in the cache, and again
only as far as the tree has changed.

``kbuild/KEY/`` belongs to one tree and one set of fragments: ``build`` is what make wrote
(O=), ``modules`` the installed modules, ``log`` make's output, ``state`` what was built.
Who builds holds ``lock`` alone, who boots or links against the result shares it.

Kernel: Documentation/kbuild/kbuild.rst, Documentation/kbuild/kconfig.rst (KCONFIG_ALLCONFIG).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from vm import archive, cache, external, host, kernel, modules
from vm.errors import BuildFailed, InvalidRequest
from vm.kernel import Kernel

FRAGMENTS = Path(__file__).parent / "kconfig"
GUEST = FRAGMENTS / "guest.config"
DEBUG = FRAGMENTS / "debug.config"
SELFTESTS = ("drivers/net", "drivers/net/hw")
NEEDED = {"IO_URING_ZCRX": "zcrx", **dict.fromkeys(modules.REQUIRED.values(), "the guest")}
NEEDED_FOR_DEBUG = {"KASAN": "--debug", "PROVE_LOCKING": "--debug"}
UNWANTED = ("DEBUG_INFO_BTF",)  # wants pahole, and minutes
TOOLS = ("make", "gcc", "flex", "bison", "bc")
HEADER = "gelf.h"
KEEP = 3
OPTION = re.compile(r"^(?:CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set)$", re.MULTILINE)


def is_source(path: Path) -> bool:
    """Whether this is the top of a kernel source tree."""
    return (path / "Kconfig").is_file() and (path / "arch/x86/Makefile").is_file()


def of_tree(tree: Path, *, debug: bool = False, rebuild: bool = False) -> Kernel:
    """The kernel of a developer's source tree, which stays as it is."""
    if not is_source(tree):
        raise InvalidRequest(f"{tree} is no kernel source tree")
    if (tree / ".config").exists() or (tree / "include/config").exists():
        raise InvalidRequest(
            f"{tree} was built or configured in place, so that kbuild cannot build it elsewhere:"
            f" take a clean one (git -C {tree} worktree add ../clean), or boot what was built"
            " there by --kernel"
        )
    tree = tree.resolve()
    return _obtain(_Folder(str(tree), debug=debug), lambda: tree, _state(tree), rebuild=rebuild)


def of_distribution(release: str, *, debug: bool = False, rebuild: bool = False) -> Kernel:
    """The same version as this kernel of the distribution, from its source package."""
    folder = _Folder(f"debian {release}", debug=debug)
    return _obtain(folder, lambda: folder.unpacked(release), release, rebuild=rebuild)


def has_distribution(release: str, *, debug: bool) -> bool:
    """Whether :func:`of_distribution` would only have to look it up."""
    return _is(_Folder(f"debian {release}", debug=debug).state, release)


def options(*texts: str) -> dict[str, str]:
    """What these configurations set; the later ones win."""
    found = {}
    for text in texts:
        for name, value, unset in OPTION.findall(text):
            found[name or unset] = value if name else "n"
    return found


def wanted(tree: Path, *, debug: bool) -> dict[str, str]:
    """Our fragments on top of those of the tree's own network selftests."""
    folder = tree / "tools/testing/selftests"
    theirs = [folder / name / "config" for name in SELFTESTS]
    ours = [GUEST, DEBUG] if debug else [GUEST]
    fragments = [*(path for path in theirs if path.is_file()), *ours]
    merged = options(*(path.read_text() for path in fragments))
    return {name: value for name, value in merged.items() if name not in UNWANTED}


class _Folder:
    """``kbuild/KEY`` of one tree."""

    def __init__(self, name: str, *, debug: bool) -> None:
        self.debug = debug
        ours = [GUEST, DEBUG] if debug else [GUEST]
        significant = [options(path.read_text()) for path in ours]
        self.path = cache.root() / "kbuild" / cache.key(name, *map(str, significant))
        self.build = self.path / "build"
        self.modules = self.path / "modules"
        self.log = self.path / "log"
        self.state = self.path / "state"

    def lock(self) -> int:
        """An open lock file; closing it lets go."""
        self.build.mkdir(parents=True, exist_ok=True)
        return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    def unpacked(self, release: str) -> Path:
        """The distribution's source."""
        tree = self.path / "source"
        if not tree.is_dir():
            making = self.path / "unpacking"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            archive.unpack(release, making)
            making.rename(tree)
        return tree


def _obtain(
    folder: _Folder, tree: Callable[[], Path], state: str | None, *, rebuild: bool
) -> Kernel:
    def stale() -> bool:
        return rebuild or state is None or not _is(folder.state, state)

    held = folder.lock()
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        if stale():
            fcntl.flock(held, fcntl.LOCK_EX)
            if stale():  # still: nobody has built it while we waited
                if rebuild:
                    shutil.rmtree(folder.build)
                    folder.build.mkdir()
                folder.state.unlink(missing_ok=True)
                _build(tree(), folder)
                if state is not None:
                    folder.state.write_text(state)
                _prune(folder.path)
            fcntl.flock(held, fcntl.LOCK_SH)
        os.utime(folder.path)  # what the pruner orders by
        found = kernel.locate(folder.build, folder.modules)
    except BaseException:
        os.close(held)
        raise
    return found.holding(cache.Entry(folder.path, held))


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text() == text


def _state(tree: Path) -> str | None:
    """A text that changes with the tree; None if only make can tell, as without git."""

    def git(*argv: str) -> bytes:
        done = external.run(["git", "-C", str(tree), *argv], capture_output=True)
        if done.returncode:
            raise InvalidRequest(done.stderr.decode(errors="replace").strip())
        return done.stdout

    try:
        head = git("rev-parse", "HEAD:./")
        changed = git("status", "--porcelain", "--no-renames", "-z", "--", ".")
    except (OSError, InvalidRequest):
        return None
    times = []
    top = Path(git("rev-parse", "--show-toplevel").decode().strip())
    for entry in changed.split(b"\0"):
        path = top / os.fsdecode(entry[3:])
        with contextlib.suppress(OSError):
            times.append(f"{path.lstat().st_mtime_ns}")
    return cache.key(head, changed, *times)


def _build(tree: Path, folder: _Folder) -> None:
    _check_tools()
    version = ".".join(re.findall(r"^(?:VERSION|PATCHLEVEL) = (\d+)$", _head(tree), re.MULTILINE))
    kind = "a debug kernel" if folder.debug else "a kernel"
    folder.log.unlink(missing_ok=True)
    _configure(tree, folder)
    with host.progress(f"building {kind}, Linux {version} (log: {folder.log})"):
        _make(tree, folder, f"-j{os.cpu_count() or 1}", "bzImage", "modules")
        shutil.rmtree(folder.modules, ignore_errors=True)
        _make(tree, folder, f"INSTALL_MOD_PATH={folder.modules}", "modules_install")


def _head(tree: Path) -> str:
    with (tree / "Makefile").open() as makefile:
        return makefile.read(300)


def _check_tools() -> None:
    missing = [tool for tool in TOOLS if host.find(tool) is None]
    probe = ["-fsyntax-only", "-x", "c", "-include", HEADER, "/dev/null"]
    if (gcc := host.find("gcc")) and external.run([gcc, *probe], capture_output=True).returncode:
        missing.append(HEADER)
    host.require(*missing)


def _configure(tree: Path, folder: _Folder) -> None:
    """Everything off but what is wanted and what that needs."""
    want = wanted(tree, debug=folder.debug)
    fragment = folder.path / "wanted.config"
    fragment.write_text("".join(f"CONFIG_{name}={value}\n" for name, value in want.items()))
    _make(tree, folder, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
    have = options((folder.build / ".config").read_text())
    needed = NEEDED | (NEEDED_FOR_DEBUG if folder.debug else {})
    if missing := [option for option in needed if have.get(option, "n") == "n"]:
        reasons = ", ".join(f"CONFIG_{option} ({needed[option]})" for option in missing)
        raise InvalidRequest(f"{tree} cannot be configured with {reasons}")


def _make(tree: Path, folder: _Folder, *argv: str) -> None:
    with folder.log.open("a") as log:
        done = external.run(
            [host.need("make"), "-s", "-C", tree, f"O={folder.build}", "ARCH=x86_64", *argv],
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": host.SEARCH_PATH},
        )
    if done.returncode:
        text = folder.log.read_text(errors="replace")
        host.check_full(f"building {tree}", text, folder.path)
        lines = text.splitlines()
        raise BuildFailed(f"{tree} cannot be built", _errors(lines))


def _errors(lines: Sequence[str]) -> list[str]:
    """What went wrong; other jobs of make may have said much since."""
    marks = ("error:", "Error ", "*** ", "undefined reference")
    found = [line for line in lines if any(mark in line for mark in marks)]
    return found[: host.LOG_LINES] or host.last_lines("\n".join(lines))


def _prune(current: Path) -> None:
    others = [path for path in current.parent.iterdir() if path.is_dir() and path != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEEP - 1 :]:
        with (path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path, ignore_errors=True)

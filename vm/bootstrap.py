"""Things made inside a Debian tree that mmdebstrap puts together and throws away.

Works as root and as an ordinary user (then in a user namespace). A hook, run where the
files have their owners, does the work; what it needs comes to it, and what it makes goes
back, as a tar through a descriptor it inherits: no path is needed that both sides of the
namespace can reach.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vm import external, host, scratch
from vm.errors import BuildFailed

SUITE = "trixie"
BACKPORTS = f"{SUITE}-backports"
RECIPE = Path(__file__).parent / "recipe"
SOURCES = (RECIPE / "sources.sh").read_text()
DOCS = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
)
TREES = "pyzcrx-tree-"
# The hooks are dash's, which redirects descriptors of one digit only. mmdebstrap has hooks of
# its own (`cat >&$fd`), whose descriptor is the lowest that is free: we leave it the low ones.
# A pipe cannot be opened by its /proc/self/fd where its owner has no place in the user
# namespace, so OUT must be redirected to; a memory file can, and IN has no need to be low.
OUT = 9
IN = 100


@dataclass(frozen=True)
class Space:
    """What a build takes: of the folder for temporary files, and of the cache."""

    tree_bytes: int
    result_bytes: int


SMALL = Space(1 << 30, 256 << 20)


def archive_uri() -> str | None:
    """The Debian archive this machine uses, None if it uses none."""
    apt = host.find("apt-get")
    if apt is None:
        return None
    query = ["indextargets", "--format", "$(REPO_URI)", "Label: Debian", "Component: main"]
    done = external.run([apt, *query], capture_output=True)
    return next(iter(done.stdout.decode().split()), None)


def tools() -> tuple[str, ...]:
    """What a build needs of this machine."""
    return ("mmdebstrap", "tar", *(() if os.geteuid() == 0 else ("newuidmap",)))


def make(
    folder: Path,
    packages: Sequence[str],
    hook: str,
    *,
    env: Mapping[str, str],
    data: bytes = b"",
    unwanted: Sequence[str] = DOCS,
    space: Space = SMALL,
    install: bool = True,
) -> None:
    """Run ``hook`` in a tree that has ``packages``, but for the paths ``unwanted``; what it
    writes to descriptor $PYZCRX_OUT, a tar, is unpacked in ``folder``. ``data`` is what it finds
    at /proc/self/fd/$PYZCRX_IN. $PYZCRX_TMP is a folder for its files.

    Without packages the tree holds nothing but apt's lists, which is a matter of seconds. With
    ``install`` false they, and what they depend on, are unpacked and no more.
    """
    as_root = os.geteuid() == 0
    host.need(*tools())
    what = "building a Debian tree"
    host.need_space(what, {host.temporary(): space.tree_bytes, folder: space.result_bytes})
    argv = command(archive_uri(), packages, hook, unwanted, as_root=as_root, install=install)
    with (
        _tree_folder(as_root=as_root) as work,
        tempfile.TemporaryFile() as log,
        tempfile.TemporaryFile() as unpack_log,
    ):
        environment = {
            **os.environ,
            "PATH": host.SEARCH_PATH,
            "TMPDIR": str(work),
            "PYZCRX_TMP": str(work),
            "SUITE": SUITE,
            "BACKPORTS": BACKPORTS,
            "PYZCRX_IN": str(IN),
            "PYZCRX_OUT": str(OUT),
            **env,
        }
        build, unpack = _run(argv, folder, data, (log, unpack_log), environment)
        if not build and not unpack:
            return
        # mmdebstrap prints whole hooks; they would bury the reason.
        script = {*SOURCES.splitlines(), *hook.splitlines()}
        built = "\n".join(line for line in _text(log).splitlines() if line not in script)
        unpacked = _text(unpack_log)
        host.check_full(what, built + unpacked, host.temporary(), folder)
        if build:  # a stream that is cut short, or empty, follows from that
            raise BuildFailed(f"mmdebstrap failed ({host.ended(build)})", host.last_lines(built))
        raise BuildFailed(
            f"unpacking what was built failed (tar {host.ended(unpack)})",
            host.last_lines(f"{built}\n{unpacked}"),
        )


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _run(
    argv: Sequence[str],
    folder: Path,
    data: bytes,
    logs: tuple[IO[bytes], IO[bytes]],
    environment: Mapping[str, str],
) -> tuple[int, int]:
    """mmdebstrap into tar; how each ended."""
    log, unpack_log = logs
    source = host.memory_file("input", data)
    read, write = os.pipe()
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open(read, "rb"))
        try:
            build = stack.enter_context(
                external.started(
                    argv, places={IN: source, OUT: write}, stdout=log, stderr=log, env=environment
                )
            )
        finally:
            os.close(source)
            os.close(write)
        unpacked = external.run(["tar", "-C", folder, "-xf", "-"], stdin=stream, stderr=unpack_log)
        stream.close()  # what still writes to it ends
        return build.wait(), unpacked.returncode


@contextmanager
def _tree_folder(*, as_root: bool) -> Iterator[Path]:
    """Where mmdebstrap makes its trees, so that one that was killed leaves nothing."""
    remove = remove_tree if as_root else _remove_as_mapped
    scratch.sweep(host.temporary(), TREES, remove)
    with scratch.folder(host.temporary(), TREES, remove) as work:
        work.chmod(0o1777)  # as /tmp: in a user namespace the tree has another owner
        yield work


def remove_tree(path: Path) -> None:
    """Nothing that may be mounted below it."""
    external.run(["rm", "-rf", "--one-file-system", path], stderr=subprocess.DEVNULL)


def _remove_as_mapped(path: Path) -> None:
    """A tree whose files have the owners of our user namespace."""
    inside = [str(each) for each in path.iterdir()]
    if inside:
        helper = ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", *inside]
        external.run(helper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    remove_tree(path)


def command(
    uri: str | None,
    packages: Sequence[str],
    hook: str,
    unwanted: Sequence[str],
    *,
    as_root: bool,
    install: bool = True,
) -> list[str]:
    """The mmdebstrap call."""
    installed = "minbase" if packages else "custom"
    variant, stage = (installed, "customize") if install else ("extract", "extract")
    suites = (SUITE, BACKPORTS)
    return [
        "mmdebstrap",
        f"--variant={variant}",
        "--format=null",
        f"--mode={'root' if as_root else 'unshare'}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude={path}" for path in unwanted),
        *([f"--include={','.join(packages)}"] if packages else []),
        f"--setup-hook={SOURCES}",
        f"--{stage}-hook={hook}",
        SUITE,
        "-",
        *([f"deb {uri} {suite} main" for suite in suites] if uri else []),
    ]


def recipe(name: str) -> str:
    """The text of a hook."""
    return (RECIPE / name).read_text()


def tar(files: Iterable[tuple[str, Path]]) -> bytes:
    """An archive of these files under these names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, path in files:
            archive.add(path, name, recursive=False)
    return out.getvalue()

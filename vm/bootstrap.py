"""Things made inside a Debian tree that mmdebstrap puts together and throws away.

Works as root and as an ordinary user (then in a user namespace). A hook, run where the
files have their owners, does the work; what it needs comes to it, and what it makes goes
back, as a tar through a descriptor it inherits: no path is needed that both sides of the
namespace can reach.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vm import host
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


def archive_uri() -> str | None:
    """The Debian archive this machine uses, None if it uses none."""
    apt = host.find("apt-get")
    if apt is None:
        return None
    done = subprocess.run(
        [apt, "indextargets", "--format", "$(REPO_URI)", "Label: Debian", "Component: main"],
        capture_output=True,
        text=True,
        check=False,
    )
    return next(iter(done.stdout.split()), None)


def make(
    folder: Path,
    packages: Sequence[str],
    hook: str,
    *,
    env: Mapping[str, str],
    data: bytes = b"",
    unwanted: Sequence[str] = DOCS,
) -> None:
    """Run ``hook`` in a tree that has ``packages``, but for the paths ``unwanted``; what it
    writes to $PYZCRX_OUT, a tar, is unpacked in ``folder``. ``data`` is what it finds at
    /proc/self/fd/$PYZCRX_IN.

    Without packages the tree holds nothing but apt's lists, which is a matter of seconds.
    """
    as_root = os.geteuid() == 0
    for tool in ("mmdebstrap", "tar", *([] if as_root else ["newuidmap"])):
        host.need(tool)
    # If we are killed, mmdebstrap gets a signal that lets it clear its own files away.
    argv = [
        *(host.need("setpriv"), "--pdeathsig", "TERM"),
        *command(archive_uri(), packages, hook, unwanted, as_root=as_root),
    ]
    source = host.memory_file("input", data)
    read, write = os.pipe()
    environment = {
        **os.environ,
        "PATH": host.SEARCH_PATH,
        "SUITE": SUITE,
        "BACKPORTS": BACKPORTS,
        "PYZCRX_IN": str(source),
        "PYZCRX_OUT": str(write),
        **env,
    }
    with tempfile.TemporaryFile() as log, open(read, "rb") as stream:
        try:
            build = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[source, write],
            )
        finally:
            os.close(source)
            os.close(write)
        with build:
            unpack = subprocess.run(
                ["tar", "-C", str(folder), "-xf", "-"],
                stdin=stream,
                stderr=subprocess.DEVNULL,  # an empty stream has its reason in the log
                check=False,
            )
        if build.returncode or unpack.returncode:
            log.seek(0)
            # mmdebstrap prints whole hooks; they would bury the reason.
            script = {*SOURCES.splitlines(), *hook.splitlines()}
            text = log.read().decode(errors="replace").splitlines()
            lines = host.last_lines("\n".join(line for line in text if line not in script))
            raise BuildFailed(f"mmdebstrap failed (status {build.returncode})", lines)


def command(
    uri: str | None, packages: Sequence[str], hook: str, unwanted: Sequence[str], *, as_root: bool
) -> list[str]:
    """The mmdebstrap call."""
    suites = (SUITE, BACKPORTS)
    return [
        "mmdebstrap",
        f"--variant={'minbase' if packages else 'custom'}",
        "--format=null",
        f"--mode={'root' if as_root else 'unshare'}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude={path}" for path in unwanted),
        *([f"--include={','.join(packages)}"] if packages else []),
        f"--setup-hook={SOURCES}",
        f"--customize-hook={hook}",
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

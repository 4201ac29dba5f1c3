"""The kernel's own network selftests, unmodified, on a pair of simulated cards.

Tests and YNL come from the distribution's source of the guest's kernel, or from a
developer's tree; they are built once and kept.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import click

from vm import bootstrap, cache, host, image, kernel, module, wheel
from vm.errors import BadRequest, BuildFailed, CommandTimeout
from vm.guest import ENVIRONMENT, Guest

DEFAULT_TEST = "drivers/net/hw/iou-zcrx.py"
ROOT = "tools/testing/selftests"
KERNEL_FILES = (
    *(f"{ROOT}/{name}" for name in ("drivers/net", "net", "*.mk", "*.h", "kselftest")),
    "tools/net",
    "tools/scripts",
    "tools/include",
    "tools/build",
    "tools/lib/bpf",
    "Documentation/netlink",
    "scripts",
    "include/uapi",
    "usr/include",
)
PACKAGES = (
    "binutils",
    "gcc",
    "gcc-bpf",
    "iputils-ping",
    "libbpf-dev",
    "libc6-dev",
    f"linux-libc-dev/{image.BACKPORTS}",
    "make",
    "python3-jsonschema",
    "python3-yaml",
    "xz-utils",
)
GUEST_FOLDER = "/run/pyzcrx/selftests"
GUEST_TREE = "/run/selftests"
TEST_ENVIRONMENT = {
    "NETIF": "zcrx0",
    "LOCAL_V4": "192.0.2.1",
    "LOCAL_V6": "2001:db8::1",
    "REMOTE_V4": "192.0.2.2",
    "REMOTE_V6": "2001:db8::2",
    "REMOTE_TYPE": "netns",
    "REMOTE_ARGS": "peer",
    "PYTHONPATH": f"{GUEST_TREE}/python",
    "PATH": f"{ENVIRONMENT['PATH']}:{GUEST_TREE}/bin",
}
COUNTERS = ("rx_zc_bytes", "rx_page_bytes", "rx_linear_bytes")
RESULT = re.compile(rb"^(not ok|ok) \d+ (\S+)(?: # (SKIP|XFAIL|XPASS)\b ?(.*))?", re.MULTILINE)


def obtain(release: str, tree: Path | None = None) -> cache.Entry:
    """A folder with ``selftests.tar``, for the series of this kernel or from this tree."""
    series = release_series(release)
    hook = bootstrap.recipe("selftest.sh")
    data = bootstrap.tar([*_liburing(), *(_subset(tree) if tree else ())])

    def make(folder: Path) -> None:
        source = [] if tree else [f"linux-source-{series}/{image.BACKPORTS}"]
        with host.progress(f"building the kernel's selftests ({tree or series})"):
            bootstrap.make(
                folder,
                [*PACKAGES, *source],
                hook,
                env={"KERNEL_FILES": " ".join(KERNEL_FILES)},
                data=data,
            )
            if not (folder / "selftests.tar").is_file():
                raise BuildFailed("the selftests were not built")

    stamp = data if tree else release.encode()
    key = cache.key("selftests", stamp, hook, *PACKAGES, *KERNEL_FILES)
    return cache.obtain("selftests", key, make, keep=2)


def release_series(release: str) -> str:
    """``7.3`` of ``7.3.4+deb13-amd64``."""
    found = re.match(r"\d+\.\d+", release)
    if not found:
        raise BadRequest(f"{release!r} is no kernel release")
    return found[0]


def _liburing() -> Iterator[tuple[str, Path]]:
    folder = Path(wheel.liburing())
    query = ["pkg-config", "--variable=includedir", "liburing"]
    include = Path(
        host.run(query, what="finding liburing", env={"PKG_CONFIG_PATH": str(folder)})
        .decode()
        .strip()
    )
    if not (include / "liburing.h").is_file():  # unpacked elsewhere than it was made for
        library = next(parent for parent in folder.parents if parent.name == "lib")
        include = library.parent / "include"
    yield "liburing/liburing.a", folder.parent / "liburing.a"
    for path in sorted((include / "liburing").rglob("*.h")):
        yield f"liburing/include/{path.relative_to(include)}", path
    yield "liburing/include/liburing.h", include / "liburing.h"


def _subset(tree: Path) -> Iterator[tuple[str, Path]]:
    if not (tree / ROOT / "kselftest.h").is_file():
        raise BadRequest(f"{tree} is no kernel source tree: it has no {ROOT}")
    listed = subprocess.run(
        ["git", "-C", str(tree), "ls-files", "-z", "--", *KERNEL_FILES],
        capture_output=True,
        check=False,
    )
    names = [name.decode() for name in listed.stdout.split(b"\0") if name]
    if not names:
        names = [
            str(path.relative_to(tree))
            for pattern in KERNEL_FILES
            for top in tree.glob(pattern)
            for path in (sorted(top.rglob("*")) if top.is_dir() else [top])
            if path.is_file()
        ]
    for name in names:
        if (tree / name).is_file():
            yield f"tree/{name}", tree / name


def release_to_boot(chosen: Path | None) -> str:
    """The release that a guest with this ``--kernel`` will have."""
    return kernel.locate(chosen or image.obtain().vmlinuz).release


@dataclass
class Outcome:
    """What one test file said."""

    test: str
    status: int
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, test: str, status: int, ktap: bytes) -> Outcome:
        counts: Counter[str] = Counter()
        for verdict, _, directive, _ in RESULT.findall(ktap):
            if directive:
                counts[directive.decode().lower()] += 1
            else:
                counts["pass" if verdict == b"ok" else "fail"] += 1
        return cls(test, status, counts)

    @property
    def ok(self) -> bool:
        return self.status == 0 and not self.counts["fail"] and bool(self.counts.total())

    def __str__(self) -> str:
        said = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        more = "" if self.status == 0 else f" (status {self.status})"
        return f"{'ok  ' if self.ok else 'FAIL'} {self.test}: {said or 'no result'}{more}"


def run(
    guest: Guest, tests: Sequence[str], *, times: int, timeout: float, queues: int
) -> list[Outcome]:
    """The tests, one after another; their output is ours as it comes."""
    module.set_up(guest.run, f"queues={queues}")
    _must(guest, ["mkdir", GUEST_TREE])
    _must(guest, ["tar", "-C", GUEST_TREE, "-xf", f"{GUEST_FOLDER}/selftests.tar"])
    before = counters(guest)
    outcomes = []
    for _ in range(times):
        for test in tests:
            outcomes.append(_run_one(guest, test, timeout))
            now = counters(guest)
            deltas = ", ".join(f"{name} +{now[name] - before[name]}" for name in COUNTERS)
            click.echo(f"# zcrx0: {deltas}")
            before = now
    _must(guest, ["rmmod", "zcrxsim"])
    return outcomes


def _run_one(guest: Guest, test: str, timeout: float) -> Outcome:
    path = PurePosixPath(GUEST_TREE, "tree", ROOT, test)
    argv = ["python3", f"./{path.name}"] if path.suffix == ".py" else [f"./{path.name}"]
    collected = bytearray()

    def sink(data: bytes) -> None:
        collected.extend(data)
        click.echo(data, nl=False)

    click.echo(f"# selftests: {test}")
    process = guest.spawn(
        argv, env=TEST_ENVIRONMENT, cwd=str(path.parent), stdout=sink, stderr=sink
    )
    try:
        status = process.wait(timeout).exit_status
    except CommandTimeout:
        click.echo(f"# {test} did not end within {timeout:.0f} s")
        status = CommandTimeout.exit_code
    return Outcome.read(test, status, bytes(collected))


def counters(guest: Guest) -> dict[str, int]:
    """``ethtool -S`` of the card under test."""
    text = _must(guest, ["ethtool", "-S", "zcrx0"])
    return {name: int(value) for name, value in re.findall(r"^ *(\w+): (\d+)$", text, re.MULTILINE)}


def _must(guest: Guest, argv: Sequence[str]) -> str:
    done = guest.run(argv, timeout=300)
    if done.returncode:
        raise BuildFailed(f"{argv[0]} failed in the guest", host.last_lines(done.stderr.decode()))
    return done.stdout.decode()

"""The kernel's own network selftests, unmodified, on a pair of NICs (vm/bed.py).

Tests and YNL come from the distribution's source of the guest's kernel, or from a
developer's tree; they are built once and kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

import click

from vm import archive, bootstrap, cache, external, host, ktap, wheel
from vm.bed import Bed, must
from vm.errors import BuildFailed, CommandTimeout, InvalidRequest, KernelSplat, LostGuest
from vm.guest import ENVIRONMENT, Guest
from vm.ktap import Outcome

DEFAULT_TESTS = ("drivers/net/hw/iou-zcrx.py",)
GVE_TESTS = ("drivers/net/queues.py", "drivers/net/hds.py", "drivers/net/hw/rss_api.py")
"""Those that the driver gve can do: iou-zcrx.py asks for combined channels and hds-thresh."""
FOLDERS = ("drivers/net", "drivers/net/hw")
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
    f"bpftool/{bootstrap.BACKPORTS}",
    "gcc",
    "gcc-bpf",
    "iputils-ping",
    "jq",
    "libbpf-dev",
    "libc6-dev",
    f"linux-libc-dev/{bootstrap.BACKPORTS}",
    "libmnl0",
    "make",
    "netsniff-ng",
    "python3-jsonschema",
    "python3-yaml",
    "tcpdump",
    "xz-utils",
)
SPACE = bootstrap.Space(tree_bytes=4 << 30, result_bytes=512 << 20)
TOOLS = ("bpftool", "ethtool", "jq", "mausezahn", "ping", "tcpdump")
GUEST_FOLDER = "/run/pyzcrx/selftests"
GUEST_TREE = "/run/selftests"
CONTAINERS = "2001:db8:2::/64"
"""For netkit behind the card; who tests from the other side needs a route there."""
TEST_ENVIRONMENT = {
    "NETIF": "zcrx0",
    "LOCAL_V4": "192.0.2.1",
    "LOCAL_V6": "2001:db8::1",
    "REMOTE_V4": "192.0.2.2",
    "REMOTE_V6": "2001:db8::2",
    "REMOTE_TYPE": "netns",
    "REMOTE_ARGS": "peer",
    "LOCAL_PREFIX_V6": CONTAINERS,
    "PYTHONPATH": f"{GUEST_TREE}/python",
    "LD_LIBRARY_PATH": f"{GUEST_TREE}/lib",
    "PATH": f"{GUEST_TREE}/bin:{ENVIRONMENT['PATH']}",
}
SLOW = {"drivers/net/gro.py": 4, "drivers/net/hw/rss_ctx.py": 4}  # times the time limit


def obtain(release: str, tree: Path | None = None) -> cache.Entry:
    """A folder with ``selftests.tar``, for the series of this kernel or from this tree."""
    series = archive.series(release)
    hook = bootstrap.recipe("selftest.sh")
    data = bootstrap.tar([*_liburing(), *(_subset(tree) if tree else ())])

    def make(folder: Path) -> None:
        source = [] if tree else [f"linux-source-{series}/{bootstrap.BACKPORTS}"]
        with host.progress(f"building the kernel's selftests ({tree or series})"):
            bootstrap.make(
                folder,
                [*PACKAGES, *source],
                hook,
                env={"KERNEL_FILES": " ".join(KERNEL_FILES), "TOOLS": " ".join(TOOLS)},
                data=data,
                space=SPACE,
            )
            if not (folder / "selftests.tar").is_file():
                raise BuildFailed("the selftests were not built")

    stamp = data if tree else release.encode()
    key = cache.key("selftests", stamp, hook, *PACKAGES, *TOOLS, *KERNEL_FILES)
    return cache.obtain("selftests", key, make, keep=2)


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
        raise InvalidRequest(f"{tree} is no kernel source tree: it has no {ROOT}")
    listing = ["git", "-C", str(tree), "ls-files", "-z", "--", *KERNEL_FILES]
    listed = external.run(listing, capture_output=True)
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


Boot = Callable[[], AbstractContextManager[Guest]]


def run(boot: Boot, bed: Bed, tests: Sequence[str], *, times: int, timeout: float) -> list[Outcome]:
    """The tests, one after another; their output is ours as it comes. None are all."""
    outcomes: list[Outcome] = []
    pending = deque(tuple(tests) * times)
    every = not tests
    while pending or every:
        try:
            with boot() as guest:
                _prepare(guest)
                if every:
                    pending.extend(programs(guest) * times)
                    every = False
                _lay_out(guest, bed)
                while pending:
                    outcomes.append(_run_one(guest, bed, pending[0], timeout))
                    done = pending.popleft()
                    # Whatever it left behind: addresses and routes, too, if it passed.
                    if pending and (pending[0] != done or not outcomes[-1].ok):
                        _lay_out(guest, bed)
        except (LostGuest, KernelSplat) as error:
            if tests or not pending:
                raise
            outcomes.append(Outcome(pending.popleft(), error.exit_code, reasons=[str(error)]))
            click.echo("\n".join(f"# {line}" for line in (str(error), *error.details)))
    return outcomes


def programs(guest: Guest) -> list[str]:
    """Every test program of ``FOLDERS``; others are for other devices."""
    return [
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in ktap.programs(guest.read_text(f"{GUEST_TREE}/tree/{ROOT}/{folder}/Makefile"))
    ]


def _prepare(guest: Guest) -> None:
    must(guest, ["mkdir", GUEST_TREE])
    must(guest, ["tar", "-C", GUEST_TREE, "-xf", f"{GUEST_FOLDER}/selftests.tar"])
    for kind, where in (("bpf", "/sys/fs/bpf"), ("configfs", "/sys/kernel/config")):
        guest.run(["mount", "-t", kind, kind, where])  # it may be there already
    guest.run(["modprobe", "pppoe"])  # built in where the tests come from


def _lay_out(guest: Guest, bed: Bed) -> None:
    bed.lay_out(guest)
    local = TEST_ENVIRONMENT["LOCAL_V6"]
    must(guest, ["ip", "-n", "peer", "-6", "route", "add", CONTAINERS, "via", local])


def _run_one(guest: Guest, bed: Bed, test: str, timeout: float) -> Outcome:
    path = PurePosixPath(GUEST_TREE, "tree", ROOT, test)
    argv = ["python3", f"./{path.name}"] if path.suffix == ".py" else [f"./{path.name}"]
    collected = bytearray()

    def sink(data: bytes) -> None:
        collected.extend(data)
        click.echo(data, nl=False)

    click.echo(f"# selftests: {test}")
    before = bed.counted(guest)
    start = time.monotonic()
    process = guest.spawn(
        argv, env=_environment(guest), cwd=str(path.parent), stdout=sink, stderr=sink
    )
    try:
        status = process.wait(timeout * SLOW.get(test, 1)).exit_status
    except CommandTimeout as error:
        sink(f"# Check failed {error}\n".encode())
        status = error.exit_code
    outcome = Outcome.read(test, status, bytes(collected), time.monotonic() - start)
    now = bed.counted(guest)
    deltas = ", ".join(f"{name} +{now[name] - before[name]}" for name in now)
    click.echo(f"# zcrx0: {deltas}")
    return outcome


def _environment(guest: Guest) -> dict[str, str]:
    kernel = guest.config.kernel
    # What the selftests themselves know of slow machines.
    slow = {"KSFT_MACHINE_SLOW": "1"} if kernel and kernel.debug else {}
    return TEST_ENVIRONMENT | slow

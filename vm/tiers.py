"""The test tiers: what each needs, how it is run, what it must not do silently.

unit, host and vm are pytest runs on this machine; nodev, sim and gve are runs in guests, with
pyzcrx installed as the wheel: sim on the simulated card and gve on modelled NICs with the kernel's
own driver, each in two guests. perf counts instructions there, on request. lint is ruff, mypy, and
builds of the C code and of the site that warn of nothing.
A skipped test fails its tier unless its reason begins with ``EXPECTED``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from vm import external, host, module, perf, stop, terminal, wheel
from vm.config import Config, Share
from vm.errors import VmError
from vm.guest import Guest
from vm.kernel import Kernel
from vm.lane import Lane, Place

ROOT = Path(__file__).parent.parent
EXPECTED = "expected: "
GUEST_TIMEOUT_S = 5400.0
LONG = "PYZCRX_TEST_LONG"
"""Set to 1 in the environment, the tests do what the docs' figures are of."""
SLOW = "PYZCRX_TEST_SLOW"
"""By how much the tests' own time-outs are longer; given in the environment, on any kernel."""
HUNG_S = 900.0
"""A test that takes longer ends its tier and shows where each thread was; not under --long."""


HUNG = "PYZCRX_TEST_HUNG"
"""In the environment: how many seconds that is; 0: never (tests/conftest.py)."""
SLOWEST = ["--durations", "10", "--durations-min", "10"]
PYTEST = ["-p", "no:cacheprovider", *SLOWEST, "-o", "junit_family=xunit1", "--junit-xml"]


def _hung(slow: float) -> str:
    """The value of HUNG on a machine that is slower by so much."""
    return "0" if os.environ.get(LONG) == "1" else f"{HUNG_S * slow:g}"


@dataclass
class Result:
    """What came of one tier."""

    tier: str
    passed: int = 0
    failed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    trouble: str = ""
    """Why it could not be run to its end."""

    @property
    def unasked(self) -> list[tuple[str, str]]:
        """Skips that nobody asked for."""
        return [skip for skip in self.skipped if not skip[1].startswith(EXPECTED)]

    @property
    def ok(self) -> bool:
        return not (self.failed or self.unasked or self.trouble) and self.passed > 0

    def add(self, other: Result) -> None:
        """A part of this tier."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.trouble = self.trouble or other.trouble

    def read(self, junit: Path, status: int) -> None:
        """Take over the counts that pytest wrote before it ended with *status*."""
        if status not in (0, 1, 5):  # all passed, some failed, none was chosen
            self.trouble = self.trouble or f"pytest broke off, with status {status}"
        if not junit.exists():
            self.trouble = self.trouble or "pytest wrote no report"
            return
        for case in ElementTree.parse(junit).iter("testcase"):
            skip = case.find("skipped")
            if skip is not None and skip.get("type") != "pytest.xfail":
                self.skipped.append((str(case.get("name")), str(skip.get("message"))))
            elif case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
            else:
                self.passed += 1


Tier = Callable[[Result, Sequence[str], Kernel | None], None]
"""Arguments are pytest's; a kernel is for those that run in a guest."""


def _steps(result: Result, steps: Iterable[tuple[str, Sequence[str | Path]]]) -> None:
    for name, argv in steps:
        click.echo(f"-- {name}")
        if external.run(argv, cwd=ROOT).returncode:
            result.failed += 1
        else:
            result.passed += 1


def lint(result: Result, _arguments: Sequence[str], _kernel: Kernel | None) -> None:
    """ruff (lint and format), mypy --strict, the C code with all warnings, and the site."""
    host.need_modules("ruff", "mypy", "cffi")
    host.need("cmake", "ninja", "gcc", "pkg-config")
    bin_folder = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        configure: list[str | Path] = [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            ROOT / "csrc",
            "-B",
            folder,
            "-DPYZCRX_WERROR=ON",
            "-DPYZCRX_BENCH=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            "--log-level=WARNING",
        ]
        os.environ.setdefault("PKG_CONFIG_PATH", wheel.liburing())
        _steps(
            result,
            [
                ("ruff", [bin_folder / "ruff", "check", "-q", "."]),
                ("ruff format", [bin_folder / "ruff", "format", "-q", "--check", "."]),
                ("mypy --strict", [bin_folder / "mypy", "--no-error-summary"]),
                ("C, configure", configure),
                ("C, -Wall -Wextra -Werror", ["cmake", "--build", folder]),
                ("site, no warning and no name missing", [ROOT / "scripts/docs", f"{folder}/site"]),
            ],
        )


def on_this_machine(folder: str) -> Tier:
    """pytest over ``tests/FOLDER``."""

    def run(result: Result, arguments: Sequence[str], _kernel: Kernel | None) -> None:
        host.need_modules("pytest", "hypothesis", "numpy", "psutil")
        with tempfile.TemporaryDirectory() as reports:
            junit = Path(reports) / "junit.xml"
            argv = [sys.executable, "-P", "-m", "pytest", *PYTEST, str(junit), "-q"]
            # Not from the checkout's folder, where pyzcrx/ has no compiled modules.
            done = external.run(
                [
                    *argv,
                    f"--rootdir={ROOT}",
                    "-c",
                    str(ROOT / "pyproject.toml"),
                    str(ROOT / "tests" / folder),
                    *arguments,
                ],
                cwd=reports,
                env={**os.environ, HUNG: _hung(float(os.environ.get(SLOW, "1")))},
                stdin=None,  # for --pdb
                ending=signal.SIGINT,  # pytest tears its fixtures down
            )
            result.read(junit, done.returncode)

    return run


def _copy_pages(folder: Path) -> None:
    """What tests/pages.py reads: a guest is shown folders, and the README is in the root."""
    shutil.copy(ROOT / "README.md", folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_*", "*.png"))


def in_guest(*folders: str, card: str, short: Sequence[str] = ()) -> Tier:
    """pytest over ``tests/FOLDER`` of each in a guest of its own, on that card.

    short: what an ordinary run, without --long, keeps to instead, such as ``FOLDER/FILE``.
    """

    def run(result: Result, arguments: Sequence[str], kernel: Kernel | None) -> None:
        slow = (kernel.patience if kernel else 1) * float(os.environ.get(SLOW, "1"))
        wanted = short if short and os.environ.get(LONG) != "1" else folders
        with tempfile.TemporaryDirectory() as reports, tempfile.TemporaryDirectory() as pages:
            _copy_pages(Path(pages))
            shares = [
                Share(ROOT / "tests", "/src/tests"),
                Share(ROOT / "examples", "/src/examples"),
                Share(Path(pages), "/src/pages"),
                Share(Path(reports), "/reports", writable=True),
            ]
            if card == "sim":
                for each in (module.ZCRXSIM, module.NETDEVSIM):
                    shares.append(Share.of(module.for_guest(kernel, each), each.guest_folder))
            with Guest(Config(kernel=kernel, shares=tuple(shares), gve=card == "gve")) as guest:
                done = terminal.run(
                    guest,
                    [
                        "env",
                        f"PYZCRX_TEST_CARD={card}",
                        f"{LONG}={os.environ.get(LONG, '0')}",
                        f"{SLOW}={slow}",
                        f"{HUNG}={_hung(slow)}",
                        "python3",
                        "-m",
                        "pytest",
                        *PYTEST,
                        "/reports/junit.xml",
                        "-q",
                        "--rootdir=/src",
                        "--import-mode=importlib",
                        "-o",
                        "xfail_strict=true",
                        *(f"/src/tests/{name}" for name in wanted),
                        *arguments,
                    ],
                    timeout=GUEST_TIMEOUT_S * slow * (20 if os.environ.get(LONG) == "1" else 1),
                )
                if card == "sim" and guest.run(["rmmod", "zcrxsim"]).returncode:
                    result.trouble = "the card's module cannot be unloaded"
            result.read(Path(reports) / "junit.xml", done.returncode)

    return run


def beside_each_other(*tiers: Tier) -> Tier:
    """One tier of several: in guests they wait more than they work."""

    def run(result: Result, arguments: Sequence[str], kernel: Kernel | None) -> None:
        parts = [partial(_guarded, tier, Result(result.tier), arguments, kernel) for tier in tiers]
        if os.environ.get(LONG) == "1":  # what is measured is alone
            for part in parts:
                result.add(part())
        else:
            with ExitStack() as stack:
                for lane in [stack.enter_context(Lane(part)) for part in parts]:
                    result.add(_landed(lane, result.tier))

    return run


def perf_ratios(result: Result, _arguments: Sequence[str], _kernel: Kernel | None) -> None:
    """Instructions and touches of payload, as ratios, beside those recorded."""
    for judged in perf.check():
        click.echo(str(judged))
        if judged.ok:
            result.passed += 1
        else:
            result.failed += 1


ON_GVE = ("guest/test_receive.py", "guest/test_streams.py", "guest/test_aio.py")
"""Of tests/guest: all of it takes the modelled NIC longer than the other tiers together."""

TIERS: dict[str, Tier] = {
    "lint": lint,
    "unit": on_this_machine("unit"),
    "host": on_this_machine("host"),
    "vm": on_this_machine("vm"),
    "nodev": in_guest("guest", card="nodev"),
    "sim": beside_each_other(in_guest("guest", card="sim"), in_guest("sim", "nic", card="sim")),
    "gve": beside_each_other(
        in_guest("guest", card="gve", short=ON_GVE), in_guest("gve", "nic", card="gve")
    ),
    "perf": perf_ratios,
}
IN_GUEST = ("sim", "nodev", "gve")
"""The longest first: that one should not be the last to begin."""
ON_REQUEST = ("perf",)
"""Run only when asked for by --tier."""


def run_tiers(names: Iterable[str], arguments: Sequence[str], kernel: Kernel | None = None) -> bool:
    """Run them, report, and say whether all is well.

    Two at a time: those on this machine one after the other, beside them one in guests, and two
    of those once the others are done. More guests on few CPUs wait for each other's, and take
    several times as long. The long runs are measured, so each is alone.
    """
    names = list(dict.fromkeys(names))
    here = [name for name in names if name not in IN_GUEST]
    there = [name for name in IN_GUEST if name in names]
    if len(names) > 1 and os.environ.get(LONG) != "1":
        with tempfile.TemporaryDirectory() as places, ExitStack() as stack:
            with Place(places, "here"):
                in_turn = partial(_run_in_turn, places)
                beside = {
                    name: stack.enter_context(Lane(partial(in_turn, name, arguments, kernel)))
                    for name in there
                }
                results = [_run(name, arguments, kernel) for name in here]
            results += [_landed(beside[name], name) for name in names if name in beside]
    else:
        results = [_run(name, arguments, kernel) for name in names]
    report(results)
    return all(result.ok for result in results)


def _run(name: str, arguments: Sequence[str], kernel: Kernel | None) -> Result:
    click.echo(f"== {name}")
    began = time.monotonic()
    result = _guarded(TIERS[name], Result(name), arguments, kernel)
    result.seconds = time.monotonic() - began
    return result


def _run_in_turn(places: str, name: str, arguments: Sequence[str], kernel: Kernel | None) -> Result:
    with Place(places, "here", "there"):
        return _run(name, arguments, kernel)


def _landed(lane: Lane[Result], tier: str) -> Result:
    """What came of it, be that the loss of the lane."""
    try:
        return lane.result()
    except VmError as error:
        return Result(tier, trouble=str(error))


def _guarded(tier: Tier, result: Result, arguments: Sequence[str], kernel: Kernel | None) -> Result:
    """What came of it, be that the loss of the guest."""
    try:
        tier(result, arguments, kernel)
    except VmError as error:
        for line in error.details:
            click.echo(f"  | {line}")
        result.trouble = str(error)
    stop.check()  # no next tier
    return result


def report(results: Sequence[Result]) -> None:
    """A line a tier, each skip with its reason, the sums last."""
    click.echo("\n== tiers")
    for result in results:
        verdict = "ok" if result.ok else "FAILED"
        click.echo(
            f"{result.tier:8} {verdict:6} {result.passed:5} passed {result.failed:4} failed "
            f"{len(result.skipped):4} skipped {result.seconds:7.1f} s"
        )
        if result.trouble:
            click.echo(f"         {result.trouble}")
        for test, reason in result.skipped:
            unasked = "" if reason.startswith(EXPECTED) else "unasked-for "
            click.echo(f"         {unasked}skip: {test}: {reason}")
        if not (result.passed or result.trouble):
            click.echo("         no test passed")
    # A tier that broke off counts as a failure, so that the sums tell it too.
    failed = sum(result.failed or not result.ok for result in results)
    skipped = sum(len(result.skipped) for result in results)
    click.echo(f"{sum(r.passed for r in results)} passed, {failed} failed, {skipped} skipped")

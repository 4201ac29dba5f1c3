"""``python -m vm bench``: zcrx-bench in the guest, its instructions counted by a plugin.

Times of an emulated guest on a shared machine say little; instructions do. Receivers run
alone on the guest's last CPU; sender, card and NAPI on the others.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vm import cache, counting, host, module, profile, wheel
from vm.config import Config, Share
from vm.errors import VmError
from vm.guest import Guest
from vm.host import last_lines

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
C_FOLDER = "/run/pyzcrx/bench"
C_RECEIVER = "zcrx-c-receiver"
SOURCE = "/src"
"""Where the guest has what of the checkout marks a run (tests/perf/marks.py)."""
EXAMPLES = ("zcrx", "zcrx-gather")
"""liburing's own, where its package has the source: as it is, and gathering."""
QUEUE = 1
PATIENCE_S = 3000.0
SIM = ("-i", "zcrx0", "--host", "192.0.2.1", "--sender-netns", "peer")


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    nodev: bool = False
    mtu: int = 9000
    pack: bool = False
    touches: bool = False
    profiled: str | None = None
    no_counting: bool = False
    as_json: bool = False
    cpus: int = 2
    queues: int = 1

    @property
    def card(self) -> tuple[str, ...]:
        """Arguments of zcrx-bench. One queue is set up by us, several by itself."""
        if self.nodev:
            return ("--queues", str(self.queues))
        if self.queues == 1:
            return (*SIM, "-q", str(QUEUE), "--no-setup-nic")
        return (*SIM, "--queues", str(self.queues))


def c_receivers() -> cache.Entry:
    """A folder with the receivers in C, against the liburing that pyzcrx is built with."""
    pkg_config = wheel.liburing()
    found = sorted(Path(pkg_config).parents[2].glob("share/doc/liburing-dev/examples/zcrx.c"))
    example = found[0] if found else None
    files = [path for path in wheel.sources(ROOT) if (ROOT / "csrc") in path.parents]
    parts = [part for file in (*files, *found) for part in (str(file), file.read_bytes())]

    def make(folder: Path) -> None:
        with host.progress("building the C receiver"), tempfile.TemporaryDirectory() as build:
            host.run(
                [
                    "cmake",
                    "-G",
                    "Ninja",
                    "-S",
                    ROOT / "csrc",
                    "-B",
                    build,
                    "-DPYZCRX_BENCH=ON",
                    f"-DPYZCRX_EXAMPLE={example or ''}",
                    "--log-level=WARNING",
                    "-DCMAKE_BUILD_TYPE=Release",
                ],
                what="configuring the C receiver",
                env={"PKG_CONFIG_PATH": pkg_config},
            )
            for name in (C_RECEIVER, *(EXAMPLES if example else ())):
                host.run(["cmake", "--build", build, "--target", name], what=f"building {name}")
                (Path(build) / name).rename(folder / name)

    key = cache.key(wheel.liburing_version(pkg_config), *parts)
    return cache.obtain("bench", key, make, keep=2)


def set_up_card(guest: Guest, mtu: int, pack: bool) -> None:
    """The simulated pair: header split on, every flow to our queue."""
    module.set_up(guest.run)
    for command in (
        f"ip link set zcrx0 mtu {mtu}",
        f"ip -n peer link set zcrx1 mtu {mtu}",
        "ethtool -G zcrx0 tcp-data-split on",
        f"ethtool -X zcrx0 start {QUEUE} equal 1",
        f"ethtool --set-priv-flags zcrx0 rx-pack {'on' if pack else 'off'}",
    ):
        done = guest.run(command.split(), timeout=60)
        if done.returncode:
            raise VmError(f"{command}: {done.stderr.decode().strip()}")


@dataclass
class Measured:
    """One call of zcrx-bench in a guest."""

    report: dict[str, Any]
    counts: dict[int, dict[str, int]]
    """By run; empty where nothing was counted."""
    profiles: dict[int, profile.Profile]

    def counted(self, name: str) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """Each run of a receiver with what was counted in it; none of one that marks nothing."""
        return [
            (run, self.counts[run["mark"]])
            for run in self.report["runs"][name]
            if run["mark"] in self.counts
        ]


@contextmanager
def booted(options: Options, folder: Path) -> Iterator[Guest]:
    """A guest with the C receiver, the card and, if instructions count, the plugin."""
    shares = [Share.of(c_receivers(), C_FOLDER), Share(ROOT / "tests", f"{SOURCE}/tests")]
    if not options.nodev:
        shares.append(Share.of(module.for_guest(None), module.GUEST_FOLDER))
    plugins: tuple[str, ...] = ()
    if not options.no_counting:
        symbols = counting.Symbols((counting.kallsyms() / counting.KALLSYMS).read_text())
        (folder / "symbols").write_text(counting.of_interest(symbols))
        arguments = [f"symbols={folder}/symbols", f"out={folder}/counts"]
        if options.touches:
            arguments.append("touches=on")
        if options.profiled:
            arguments.append(f"profile={folder}/profile")
        plugin = counting.plugin()
        plugins = (",".join([str(plugin / "count.so"), *arguments]),)
    config = Config(
        shares=tuple(shares),
        cpus=options.cpus,
        plugins=plugins,
        kvm=options.no_counting,
        append="norandmaps",
    )
    with Guest(config) as guest:
        if not options.nodev:
            set_up_card(guest, options.mtu, options.pack)
        yield guest


def measure(guest: Guest, options: Options, arguments: Sequence[str], folder: Path) -> Measured:
    """Run it once, and join what the plugin counted."""
    argv = [
        "zcrx-bench",
        "--json",
        "--c-receiver",
        f"{C_FOLDER}/{C_RECEIVER}",
        *options.card,
        *arguments,
    ]
    example = f"{C_FOLDER}/{EXAMPLES[0]}"
    if guest.run(["test", "-x", example]).returncode == 0:
        argv[1:1] = ["--example", example]
    if not options.no_counting:
        argv[:0] = ["env", f"PYTHONPATH={SOURCE}"]
        argv += ["--marks", "tests.perf.marks"]
    if options.touches:
        argv.append("--read")
    done = guest.run(argv, timeout=PATIENCE_S)
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise VmError(f"zcrx-bench ended with status {done.returncode}", last_lines(said))
    counts = {}
    if not options.no_counting:
        for line in (folder / "counts").read_text().splitlines():
            count = json.loads(line)
            counts[count.pop("run")] = count
    profiles = profile.read(folder / "profile") if options.profiled else {}
    return Measured(with_instructions(json.loads(done.stdout), counts), counts, profiles)


def with_instructions(report: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
    """The report, each run with what was counted of it: for pictures."""
    for run in (run for runs in report["runs"].values() for run in runs):
        if (counted := counts.get(run.get("mark"))) is not None:
            run["instructions"] = sum(counted[name] for name in RECEIVER)
    return report


def per(run: dict[str, Any], counts: dict[str, int], *names: str) -> float:
    """Instructions for a MiB."""
    return float(sum(counts[name] for name in names) / (run["bytes"] / MIB))


RECEIVER = ("user", "system", "user_steps", "system_steps")


def round_trips(measured: Measured) -> dict[str, tuple[float, float]]:
    """Instructions of the receivers for a round trip: user and system, steps among them."""
    report, found = measured.report, {}
    for name, run in report.get("echo_runs", {}).items():
        counts = measured.counts.get(run["mark"])
        if counts is not None:
            n = len(report["echo_ns"][name])
            user, system = (counts[kind] + counts[f"{kind}_steps"] for kind in RECEIVER[:2])
            found[name] = user / n, system / n
    return found


def echoes(measured: Measured) -> Iterator[str]:
    """A line a receiver; ratios are to the first."""
    found = round_trips(measured)
    if not found:
        return
    first = sum(next(iter(found.values())))
    yield f"{'a round trip':14} {'user':>8} {'system':>8} {'sum':>9} {next(iter(found))[:8]:>8}"
    for name, (user, system) in found.items():
        both = user + system
        yield f"{name:14} {user:8.0f} {system:8.0f} {both:9.0f} {both / first:8.3f}"


def instructions(measured: Measured) -> Iterator[str]:
    """A line a receiver: thousands of instructions for a MiB, medians of the rounds."""
    names = [name for name in measured.report["runs"] if measured.counted(name)]
    if not names:
        return
    reference = names[0]
    totals = {
        name: statistics.median(per(run, n, *RECEIVER) for run, n in measured.counted(name))
        for name in names
    }
    yield (
        f"{'instructions':14} {'user':>8} {'system':>8} {'steps':>8} {'sum':>9} {'of':>8} "
        f"{'':13} {'a chunk':>8} {'softirq':>7} {'irq':>7}"
    )
    yield (
        f"{'receiver':14} {'k/MiB':>8} {'k/MiB':>8} {'k/MiB':>8} {'k/MiB':>9} {reference[:8]:>8} "
        f"{'(least-most)':13} {'':8} {'k/MiB':>7} {'k/MiB':>7}"
    )
    for name in names:
        runs = measured.counted(name)

        def median(*of: str, runs: list[tuple[dict[str, Any], dict[str, int]]] = runs) -> float:
            return statistics.median(per(run, n, *of) for run, n in runs)

        ratios = [per(run, n, *RECEIVER) / totals[reference] for run, n in runs]
        chunk = statistics.median(
            sum(n[c] for c in RECEIVER) / max(run["chunks"], 1) for run, n in runs
        )
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        yield (
            f"{name:14} {median('user') / 1e3:8.1f} {median('system') / 1e3:8.1f} "
            f"{median('user_steps', 'system_steps') / 1e3:8.1f} {totals[name] / 1e3:9.1f} "
            f"{totals[name] / totals[reference]:8.3f} {spread:13} {chunk:8.0f} "
            f"{median('softirq', 'softirq_steps') / 1e3:7.1f} "
            f"{median('irq', 'irq_steps') / 1e3:7.1f}"
        )
    yield "steps: repetitions of string instructions (a copy by words of 8 bytes)"


TOUCHES = {
    "read": ("read_bytes",),
    "copied from": ("copy_read_bytes", "memcpy_read_bytes"),
    "copied to": ("copy_written_bytes", "memcpy_written_bytes"),
    "card's DMA": ("other_memcpy_bytes",),
}


def touched(run: dict[str, Any], counts: dict[str, int], *names: str) -> float:
    """How often a received byte was touched so."""
    return float(sum(counts[name] for name in names) / run["bytes"])


def touches(measured: Measured) -> Iterator[str]:
    """Payload touches for a received byte, the card's own apart."""
    ours = [name for what, names in TOUCHES.items() if what != "card's DMA" for name in names]
    sums = {
        name: statistics.median(touched(run, n, *ours) for run, n in measured.counted(name))
        for name in measured.report["runs"]
        if measured.counted(name)
    }
    copying = [n for name, n in sums.items() if name.startswith("recv_into")]
    yield (
        f"{'touches':14} "
        + " ".join(f"{what:>12}" for what in TOUCHES)
        + f" {'sum, no DMA':>12} {'of recv_into':>12}"
    )
    for name in sums:
        runs = measured.counted(name)
        cells = " ".join(
            f"{statistics.median(touched(run, n, *what) for run, n in runs):12.2f}"
            for what in TOUCHES.values()
        )
        share = f"{sums[name] / min(copying):12.2f}" if copying else f"{'-':>12}"
        yield f"{name:14} {cells} {sums[name]:12.2f} {share}"


def run(options: Options, arguments: Sequence[str]) -> None:
    """Measure and print."""
    if options.queues != 1 and not options.no_counting:
        raise VmError(
            "several queues have a process each, and one's instructions are counted: "
            "give --no-counting, too"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with booted(options, folder) as guest:
            measured = measure(guest, options, arguments, folder)
            if options.as_json:
                click.echo(json.dumps({"report": measured.report, "counts": measured.counts}))
                return
            show(guest, options, measured)


def show(guest: Guest, options: Options, measured: Measured) -> None:
    """The tables: times by zcrx-bench itself, then what was counted."""
    shown = guest.run(
        [
            "python3",
            "-c",
            "import sys; from pyzcrx.bench import figures, table;"
            "print(table.table(figures.Report.from_json(sys.stdin.read())))",
        ],
        input=json.dumps(measured.report).encode(),
        timeout=120,
    )
    click.echo(shown.stdout.decode() + shown.stderr.decode())
    if options.no_counting:
        return
    for block in (instructions(measured), echoes(measured)):
        if text := "\n".join(block):
            click.echo(text + "\n")
    if options.touches:
        click.echo("\n".join(touches(measured)))
    if options.profiled:
        runs = measured.report["runs"].get(options.profiled)
        if not runs:
            raise VmError(f"--profile {options.profiled}: it did not run")
        where = profile.Where(guest, runs[-1].get("maps", []))
        click.echo(
            "\n" + "\n".join(profile.show(measured.profiles[runs[-1]["mark"]], where, runs[-1]))
        )

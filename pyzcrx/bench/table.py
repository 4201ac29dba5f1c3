"""The report as text, readable at 100 columns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from pyzcrx._ring.pace import MOST_US
from pyzcrx.bench.figures import (
    Report,
    Run,
    Spread,
    check_comparable,
    chunk_bytes,
    cpu,
    per_gib,
    percentile,
    rate,
    ratio,
)
from pyzcrx.bench.job import ECHO_BYTES
from pyzcrx.bench.plan import MIB


def _median(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    return statistics.median(figure(run) for run in runs)


def _ratio(value: float | None) -> str:
    return f"{value:8.2f}" if value is not None else f"{'-':>8}"


def heading(report: Report) -> Iterator[str]:
    """What was measured, on what."""
    setup = report.setup
    cpus = setup["pinned"]
    yield (
        f"Linux {setup['kernel']}, {setup['cpu']}, Python {setup['python']}, "
        f"pyzcrx {report.versions['pyzcrx']}"
    )
    yield (
        f"{setup['interface']}, MTU {setup['mtu']}; {setup['connections']} connection(s)"
        + (f" on each of {queues} queues" if (queues := setup.get("queues", 1)) > 1 else "")
        + (
            f" at a time, {setup['short']} of 4 KiB a run"
            if setup.get("short")
            else f", {setup['size_bytes'] // MIB} MiB a run by {setup['sender']}"
        )
        + (", every byte read" if setup["read"] else "")
    )
    yield f"turns of pyzcrx gather for {setup.get('gather_us', MOST_US)} us at most"
    yield f"CPUs: receiver {cpus['receiver']}, sender {cpus['sender']}, NAPI {cpus['napi']}"
    yield from (f"not pinned or not run: {problem}" for problem in report.problems)


def rates(report: Report) -> Iterator[str]:
    """A line a receiver; ratios are to the first."""
    if not report.runs:
        return
    first = next(iter(report.runs))
    reference = report.runs[first]
    yield (
        f"{'':14} {'rate':>7} {'':13} {'of':>8}  {'CPU s/GiB':^20} {'of':>8} "
        f"{'waits':>6} {'chunk':>7} {'CPU':>6}"
    )
    yield (
        f"{'receiver':14} {'MiB/s':>7} {'(least-most)':13} {first[:8]:>8}  "
        f"{'user':>6} {'system':>6} {'softi.':>6} {first[:8]:>8} "
        f"{'/MiB':>6} {'KiB':>7} {'copied':>6}"
    )
    for name, runs in report.runs.items():
        spread = Spread.of([rate(run) for run in runs])
        copied = runs[-1].get("copied")
        yield (
            f"{name:14} {spread.median:7.1f} {f'({spread.least:.0f}-{spread.most:.0f})':13} "
            f"{_ratio(ratio(runs, reference, rate))}  "
            f"{_median(runs, per_gib('user_s')):6.2f} {_median(runs, per_gib('system_s')):6.2f} "
            f"{_median(runs, per_gib('softirq_of_receiver_s')):6.2f} "
            f"{_ratio(ratio(runs, reference, cpu))} "
            f"{_median(runs, lambda run: run['waits'] * MIB / run['bytes']):6.1f} "
            f"{_median(runs, chunk_bytes) / 1024:7.1f} "
            f"{'?' if copied is None else f'{copied:.2f}':>6}"
        )


def latencies(report: Report) -> Iterator[str]:
    """Echo round trips."""
    if not report.echo_ns:
        return
    size_bytes = report.setup.get("echo_bytes", ECHO_BYTES)
    yield f"{f'echo {size_bytes}, us':14} {'p50':>9} {'p99':>9} {'p99.9':>9} {'rounds':>7}"
    for name, took in report.echo_ns.items():
        p50, p99, p999 = (percentile(took, percent) / 1000 for percent in (50, 99, 99.9))
        yield f"{name:14} {p50:9.1f} {p99:9.1f} {p999:9.1f} {len(took):7}"


def memory(report: Report) -> Iterator[str]:
    """The most that a receiver's process had in memory, its area included."""
    peaks = {
        name: max(run.get("peak_kib", 0) for run in runs)
        for name, runs in report.runs.items()
        if any(run.get("peak_kib") for run in runs)
    }
    if peaks:
        yield f"{'peak memory':14} {'MiB':>9} {'of first':>9}"
    for name, kib in peaks.items():
        yield f"{name:14} {kib / 1024:9.1f} {kib / next(iter(peaks.values())):9.2f}"


def traffic(report: Report) -> Iterator[str]:
    """Bytes between caches and memory for each received byte, the whole machine's."""
    if any("memory_bytes" in run for runs in report.runs.values() for run in runs):
        yield f"{'memory':14} {'per byte':>9} {'of first':>9}"
    first = 0.0
    for name, runs in report.runs.items():
        shares = [run["memory_bytes"] / run["bytes"] for run in runs if "memory_bytes" in run]
        if shares:
            share = statistics.median(shares)
            first = first or share
            yield f"{name:14} {share:9.2f} {share / first if first else 0:9.2f}"


def table(report: Report) -> str:
    """All of it."""
    blocks = (heading(report), rates(report), memory(report), traffic(report), latencies(report))
    return "\n\n".join(text for block in blocks if (text := "\n".join(block)))


def comparison(a: Report, b: Report) -> str:
    """The second report's figures over the first's; raises BenchError if they do not compare."""
    check_comparable(a, b)
    lines = [f"{'receiver':14} {'rate':>17} {'ratio':>6}  {'CPU s/GiB':>15} {'ratio':>6}"]
    for name in a.runs:
        if name not in b.runs:
            continue
        before, after = a.runs[name], b.runs[name]
        rates_ = _median(before, rate), _median(after, rate)
        cpus = _median(before, cpu), _median(after, cpu)
        lines.append(
            f"{name:14} {rates_[0]:7.1f} > {rates_[1]:7.1f} {rates_[1] / rates_[0]:6.2f}  "
            f"{cpus[0]:6.2f} > {cpus[1]:6.2f} "
            + (f"{cpus[1] / cpus[0]:6.2f}" if cpus[0] else f"{'-':>6}")
        )
    return "\n".join(lines)

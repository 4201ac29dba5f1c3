"""Rate and CPU of several reports as one picture; needs matplotlib, the extra ``bench``."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyzcrx.bench.figures import Report, cpu, rate
from pyzcrx.bench.plan import BenchError

AXES = {
    "rx_buf_len": "buffer, KiB",
    "connections": "connections",
    "queues": "queues",
}
MARKERS = "osD^vPX*h<>d"


def curves(reports: Sequence[Report], axis: str) -> dict[str, list[tuple[float, float, float]]]:
    """By receiver: (place on the axis, MiB/s, CPU s/GiB), in order."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for report in reports:
        at = report.setup.get(axis) or (4096 if axis == "rx_buf_len" else 1)
        for name, runs in report.runs.items():
            point = (
                at / 1024 if axis == "rx_buf_len" else at,
                statistics.median(map(rate, runs)), statistics.median(map(cpu, runs)),
            )  # fmt: skip
            found.setdefault(name, []).append(point)
    return {name: sorted(points) for name, points in found.items()}


def varied(reports: Sequence[Report]) -> list[str]:
    """The axes along which the reports differ; raises BenchError if they differ elsewhere."""
    first = reports[0].setup
    different = {
        key for report in reports for key in first.keys() | report.setup.keys()
        if report.setup.get(key) != first.get(key)
    }  # fmt: skip
    if others := different - AXES.keys():
        raise BenchError(f"the set-ups differ in {', '.join(sorted(others))}: not one picture")
    return [axis for axis in AXES if axis in different]


def draw(reports: Sequence[Report], path: Path) -> None:
    """Write a PNG: rates above, CPU below, a column for each axis that was varied.

    Reports that vary nothing give bars. Raises BenchError without matplotlib.
    """
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        plt: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise BenchError("--plot needs matplotlib: pip install 'pyzcrx[bench]'") from None
    axes = varied(reports)
    columns = max(1, len(axes))
    figure, grid = plt.subplots(
        2, columns, figsize=(2 + 4 * columns, 7), squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(name for report in reports for name in report.runs))
    colour = {name: f"C{i}" for i, name in enumerate(names)}
    for row, label in enumerate(("rate, MiB/s", "receiver CPU, s/GiB")):
        for column in range(columns):
            plot = grid[row][column]
            if axes:
                # Along one axis, all others as in the first report.
                mine = [r for r in reports if _others_equal(r, reports[0], axes[column])]
                for i, (name, points) in enumerate(curves(mine, axes[column]).items()):
                    plot.plot([p[0] for p in points], [p[1 + row] for p in points],
                              marker=MARKERS[i % len(MARKERS)], color=colour[name],
                              label=name)  # fmt: skip
                plot.set_xscale("log", base=2)
                ticks = sorted({p[0] for points in curves(mine, axes[column]).values()
                                for p in points})  # fmt: skip
                plot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                plot.minorticks_off()
                plot.set_xlabel(AXES[axes[column]])
            else:
                points = [curves(reports, "connections")[name][0] for name in names]
                bars = plot.barh(names, [p[1 + row] for p in points],
                                 color=[colour[name] for name in names])  # fmt: skip
                plot.bar_label(bars, fmt="%.3g", padding=3)
                plot.margins(x=0.15)
                plot.invert_yaxis()
            plot.set_title(label, loc="left", fontsize=10)
            plot.set_xlim(left=0) if not axes else plot.set_ylim(bottom=0)
            plot.grid(alpha=0.3)
            plot.set_axisbelow(True)
    if axes:
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    setup = reports[0].setup
    figure.supxlabel(
        f"{setup['interface']}, MTU {setup['mtu']}, Linux {setup['kernel']}", fontsize=9
    )
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    finally:
        plt.close(figure)


def _others_equal(report: Report, first: Report, axis: str) -> bool:
    return all(
        report.setup.get(other) == first.setup.get(other) for other in AXES if other != axis
    )

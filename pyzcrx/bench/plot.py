"""Rate, CPU and instructions of several reports as one picture; needs matplotlib (extra bench)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyzcrx._kernel.memory import PAGE
from pyzcrx.bench.figures import COUNTED, Report, Run, Spread, cpu, instructions, rate
from pyzcrx.bench.plan import BenchError
from pyzcrx.bench.receivers.catalogue import REFERENCE

AXES = {
    "rx_buf_len": "size of a buffer, KiB",
    "connections": "connections, to each queue",
    "queues": "queues, a process each",
}
ROWS = {"rate, MiB/s (more is better)": rate, "receiver CPU, s/GiB (less is better)": cpu}
COUNTED_ROWS = {"instructions, thousand/MiB (less is better)": instructions}
Figure = Callable[[Run], float]
MARKERS = "osD^vPX*h<>d"
Curve = list[tuple[float, Spread]]


def rows(reports: Sequence[Report]) -> Mapping[str, Figure]:
    """What is drawn, by its label: instructions where all runs were counted."""
    runs = [run for report in reports for of_name in report.runs.values() for run in of_name]
    return ROWS | (COUNTED_ROWS if all(COUNTED in run for run in runs) else {})


def place(report: Report, axis: str) -> int:
    """Where a report stands on an axis; buffers of no given size are pages."""
    return int(report.setup.get(axis) or (PAGE if axis == "rx_buf_len" else 1))


def curves(reports: Sequence[Report], axis: str, figure: Figure) -> dict[str, Curve]:
    """By receiver: place on the axis and the figure there, in order; equal places are one."""
    runs: dict[str, dict[float, list[float]]] = {}
    for report in reports:
        at = place(report, axis) / (1024 if axis == "rx_buf_len" else 1)
        for name, of_name in report.runs.items():
            runs.setdefault(name, {}).setdefault(at, []).extend(map(figure, of_name))
    return {
        name: [(at, Spread.of(values)) for at, values in sorted(places.items())]
        for name, places in runs.items()
    }


def varied(reports: Sequence[Report]) -> list[str]:
    """The axes along which the reports differ; raises BenchError if they differ elsewhere.

    Who runs where follows from the number of queues, so only equal numbers must agree in it.
    """
    first = reports[0].setup
    by_queues: dict[int, Any] = {}
    different = set()
    for report in reports:
        setup = report.setup
        different |= {k for k in first.keys() | setup.keys() if setup.get(k) != first.get(k)}
        different.discard("pinned")
        pinned = setup.get("pinned")
        if by_queues.setdefault(place(report, "queues"), pinned) != pinned:
            raise BenchError("the set-ups differ in pinned: not one picture")
    if others := different - AXES.keys():
        raise BenchError(f"the set-ups differ in {', '.join(sorted(others))}: not one picture")
    return [axis for axis in AXES if len({place(report, axis) for report in reports}) > 1]


def pyplot() -> Any:
    """matplotlib's, for files only. Raises BenchError where it is not installed."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise BenchError(
            f"a picture needs matplotlib ({error}): pip install 'pyzcrx[bench]'"
        ) from None


def draw(reports: Sequence[Report], path: Path) -> None:
    """Write a PNG: rates above, CPU and instructions below, a column for each varied axis.

    Medians, with the least and the most of the rounds as thin bars; C, where it ran, is
    the dashed line. Reports that vary nothing give bars. Raises BenchError without
    matplotlib.
    """
    plt = pyplot()
    axes, drawn = varied(reports), rows(reports)
    names = list(dict.fromkeys(name for report in reports for name in report.runs))
    styles = _styles(names)
    if axes:
        figure, grid = plt.subplots(
            len(drawn),
            len(axes),
            figsize=(3 + 4 * len(axes), 3.75 * len(drawn)),
            squeeze=False,
            sharex="col",
            layout="constrained",
        )
        for row, (label, value) in enumerate(drawn.items()):
            for plot, axis in zip(grid[row], axes, strict=True):
                # Along one axis, all others as in the first report.
                mine = [r for r in reports if _others_equal(r, reports[0], axis)]
                _lines(plot, curves(mine, axis, value), styles)
            grid[row][0].set_ylabel(label)
        for below, axis in zip(grid[-1], axes, strict=True):
            below.set_xlabel(AXES[axis])
        for plot in grid[0]:
            plot.set_ylim(bottom=0)
        # One scale for what should be flat; rates grow with queues.
        for flat in grid[1:]:
            top = max(plot.get_ylim()[1] for plot in flat)
            for plot in flat:
                plot.set_ylim(0, top)
        _legend(figure, grid, names)
    else:
        figure, grid = plt.subplots(
            1,
            len(drawn),
            figsize=(5.5 * len(drawn), 1.6 + 0.4 * len(names)),
            squeeze=False,
            sharey="row",
            layout="constrained",
        )
        for plot, (label, value) in zip(grid[0], drawn.items(), strict=True):
            found = curves(reports, "queues", value)
            _bars(plot, {name: found[name][0][1] for name in names}, styles)
            plot.set_xlabel(label)
    for plot in grid.flat:
        plot.grid(alpha=0.3)
        plot.set_axisbelow(True)
        plot.spines[["top", "right"]].set_visible(False)
    figure.suptitle(heading(reports[0], axes), x=0.01, ha="left", fontsize=9, color="0.3")
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror or error}") from None
    finally:
        plt.close(figure)


def heading(report: Report, axes: Sequence[str]) -> str:
    """On what it was measured, and where each axis stands that a column does not vary."""
    setup = report.setup
    buffer, connections, queues = (place(report, axis) for axis in AXES)
    told = (
        f"buffers of {buffer / 1024:g} KiB, {connections} connection{'s'[: connections != 1]}, "
        f"{queues} queue{'s'[: queues != 1]}"
    )
    return (
        f"{setup['interface']}, MTU {setup['mtu']}, Linux {setup['kernel']}, {setup['cpu']}\n"
        f"{'where not varied: ' if axes else ''}{told}"
    )


def title(name: str) -> str:
    """A receiver as the picture names it."""
    return "C, gathering" if name == REFERENCE else name


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The reference black and dashed; others a colour and a marker each."""
    others = [name for name in names if name != REFERENCE]
    return {
        REFERENCE: {
            "color": "black",
            "linestyle": "--",
            "linewidth": 2.2,
            "marker": "s",
            "zorder": 3,
        },
    } | {
        name: {"color": f"C{i}", "marker": MARKERS[i % len(MARKERS)], "linewidth": 1.6}
        for i, name in enumerate(others)
    }


def _around(spreads: Sequence[Spread]) -> list[list[float]]:
    return [[s.median - s.least for s in spreads], [s.most - s.median for s in spreads]]


def _lines(plot: Any, found: dict[str, Curve], styles: dict[str, dict[str, Any]]) -> None:
    for name, curve in found.items():
        spreads = [spread for _, spread in curve]
        plot.errorbar(
            [at for at, _ in curve],
            [spread.median for spread in spreads],
            _around(spreads),
            elinewidth=0.8,
            capsize=2,
            markersize=6,
            label=name,
            **styles[name],
        )
    ticks = sorted({at for curve in found.values() for at, _ in curve})
    plot.set_xscale("log", base=2)
    plot.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    plot.minorticks_off()


def _bars(plot: Any, found: dict[str, Spread], styles: dict[str, dict[str, Any]]) -> None:
    medians = [spread.median for spread in found.values()]
    plot.barh(
        [title(name) for name in found],
        medians,
        xerr=_around(list(found.values())),
        color=[styles[name]["color"] for name in found],
        alpha=0.85,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    # Beyond the thin bars, which would run through the numbers.
    most = max(spread.most for spread in found.values())
    for i, spread in enumerate(found.values()):
        plot.text(spread.most + most * 0.02, i, number(spread.median), va="center", fontsize=9)
    plot.set_xlim(0, most * 1.15 or 1)
    if not plot.yaxis_inverted():
        plot.invert_yaxis()


def _legend(figure: Any, grid: Any, names: Sequence[str]) -> None:
    found: dict[str, Any] = {}
    for plot in grid.flat:
        handles, labels = plot.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    shown = [name for name in names if name in found]
    figure.legend(
        [found[name] for name in shown],
        [title(name) for name in shown],
        loc="outside right center",
        frameon=False,
    )


def _others_equal(report: Report, first: Report, axis: str) -> bool:
    return all(place(report, other) == place(first, other) for other in AXES if other != axis)

"""Reports as pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyzcrx.bench import figures, plot
from pyzcrx.bench.figures import Report, Spread
from pyzcrx.bench.plan import MIB, BenchError
from tests.unit.reports import report


def test_pictures_vary_what_can_be_an_axis() -> None:
    one, eight = report(), report(connections=8)
    assert plot.varied([one, one]) == []
    assert plot.varied([one, eight]) == ["connections"]
    assert plot.curves([eight, one], "connections", figures.rate)["c"] == [
        (1, Spread(128.0, 64.0, 256.0)),
        (8, Spread(128.0, 64.0, 256.0)),
    ]
    with pytest.raises(BenchError, match="mtu"):
        plot.varied([one, report(mtu=1500)])


def test_pictures_over_queues() -> None:
    pinned = {"receiver": [1, 2], "sender": 0, "napi": 0}
    one, two = report(), report(queues=2, pinned=pinned)
    assert plot.varied([one, two]) == ["queues"]
    with pytest.raises(BenchError, match="pinned"):
        plot.varied([one, two, report(queues=2)])
    old = report()
    del old.setup["queues"]
    assert plot.varied([old, one]) == []
    assert plot.varied([old, two]) == ["queues"]


def test_runs_at_one_place_of_an_axis_are_one_point() -> None:
    [(at, spread)] = plot.curves([report(), report(rx_buf_len=4096)], "rx_buf_len", figures.cpu)[
        "columns"
    ]
    assert (at, spread) == (4, Spread(4.0, 4.0, 8.0))


def test_a_picture_says_what_it_is_of() -> None:
    assert plot.heading(report(rx_buf_len=32768, connections=8), ["queues"]).splitlines() == [
        "zcrx0, MTU 9000, Linux 7.3.4, a CPU of some length, as they have them today",
        "where not varied: buffers of 32 KiB, 8 connections, 1 queue",
    ]
    assert [plot.number(value) for value in (12345.6, 0.1264, 1.0)] == ["12,346", "0.126", "1"]


def counted(**changes: object) -> Report:
    made = report(**changes)
    for run in (run for runs in made.runs.values() for run in runs):
        run["instructions"] = run["bytes"] * 2000 / MIB
    return made


def test_instructions_are_drawn_where_all_were_counted() -> None:
    both = counted(), counted(connections=8)
    assert len(plot.rows(both)) == 3
    figure = [*plot.rows(both).values()][-1]
    assert {spread.median for _, spread in plot.curves(both, "connections", figure)["c"]} == {2.0}
    assert len(plot.rows([*both, report()])) == 2
    one = counted()
    del one.runs["c"][0]["instructions"]
    assert len(plot.rows([one])) == 2


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="expected: matplotlib is an extra")
    many = [report(), report(connections=8), report(queues=2), report(rx_buf_len=8192)]
    two = [counted(), counted(connections=8)]
    for name, reports in (
        ("bars", [report()]),
        ("curves", many[:2]),
        ("all", many),
        ("counted bars", two[:1]),
        ("counted", two),
    ):
        plot.draw(reports, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BenchError, match="No such file"):
        plot.draw([report()], tmp_path / "no" / "x.png")


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchError, match="pip install"):
        plot.draw([report()], tmp_path / "x.png")

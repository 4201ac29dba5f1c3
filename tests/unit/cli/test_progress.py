"""How far long work is, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from pyzcrx.cli import progress
from pyzcrx.cli.progress import LINES_S, REDRAW_S, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_lines_come_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("prog", None, clock)
    assert shown.wait_s() == LINES_S
    shown.show(lambda: pytest.fail("too early"))
    clock.now += LINES_S
    shown.show(lambda: "half")
    shown.say("done")
    shown.clear()
    assert capsys.readouterr().err == "prog: half\nprog: done\n"
    assert shown.wait_s() == LINES_S
    assert Progress("prog", 2.5, clock).wait_s() == 2.5


def test_a_terminal_has_one_line_that_is_redrawn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_columns", lambda: 10)
    shown = Progress("prog", 60, clock)
    for text in ("one", "a long line"):
        assert shown.wait_s() == pytest.approx(REDRAW_S)
        clock.now += 2 * REDRAW_S
        shown.show(lambda text=text: text)  # type: ignore[misc]
    shown.say("done")
    shown.say("end")
    clear = "\r\x1b[K"
    assert terminal.getvalue() == f"{clear}prog: one{clear}prog: a l{clear}prog: done\nprog: end\n"

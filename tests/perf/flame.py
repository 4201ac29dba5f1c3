"""A flame graph of what callgrind counted: who called whom, as wide as it took instructions."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from pyzcrx.bench.plan import BenchError

# At the end of the path: pyzcrx itself comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.perf import callgrind

CALLERS = 80
"""How many callers of a function callgrind tells apart; a deeper stack loses its outermost."""
OPTIONS = (f"--separate-callers={CALLERS}",)
"""Of callgrind, for :func:`of_turn`."""
WIDTH, HEIGHT = 1200, 18
"""Of the picture, and of one function in it; pixels."""
_LETTER = 6.6
_COLOURS = {"shim": "#e8743b", "cffi": "#e8b63b", "python": "#5899da", "other": "#b8bec6"}

Stack = tuple[str, ...]


@dataclass
class Frame:
    """A function, called as those above it say; *total* with all that it called."""

    name: str
    part: str
    total: int = 0
    callees: dict[str, Frame] = field(default_factory=dict)


def stack_of(name: str) -> Stack:
    """The functions in a name of callgrind's ``--separate-callers``, the first caller first.

    It has the function, then its callers, each behind an apostrophe; a recursion's number too.
    What a compiler appended for a part of a function is left out.
    """
    parts = (part for part in reversed(name.split("'")) if not part.isdigit())
    return tuple("?" if part.startswith("0x") else re.split(r"[.@]", part)[0] for part in parts)


def tree(counted: Mapping[tuple[str, str], int], parts: Mapping[str, str]) -> Frame:
    """All stacks below one frame. *parts*: which part of the program each function is of."""
    root = Frame("all", "other")
    stacks: Counter[Stack] = Counter()
    for (_, name), instructions in counted.items():
        stacks[stack_of(name)] += instructions
    for stack, instructions in stacks.items():
        frame = root
        frame.total += instructions
        for name in stack:
            frame = frame.callees.setdefault(name, Frame(name, parts.get(name, "other")))
            frame.total += instructions
    return root


def single(frame: Frame) -> Frame:
    """From where on it did something itself or called several: what is above says nothing."""
    while len(frame.callees) == 1:
        [callee] = frame.callees.values()
        if callee.total < frame.total:
            break
        frame = callee
    return frame


def _depth(frame: Frame, least: float) -> int:
    return 1 + max(
        (_depth(each, least) for each in frame.callees.values() if each.total >= least), default=0
    )


def _boxes(
    frame: Frame, at: float, level: int, scale: float, turns: float, least: float
) -> Iterator[str]:
    width = frame.total * scale
    told = f"{frame.name}: {frame.total / turns:,.0f} instructions a turn"
    letters = int((width - 6) / _LETTER)
    label = frame.name if len(frame.name) <= letters else frame.name[: letters - 1] + "…"
    yield (
        f'<g><title>{escape(told)}</title><rect x="{at:.1f}" y="{level * HEIGHT + 24}" '
        f'width="{width:.1f}" height="{HEIGHT - 1}" fill="{_COLOURS[frame.part]}" rx="2"/>'
    )
    if letters > 3:
        yield f'<text x="{at + 3:.1f}" y="{level * HEIGHT + 37}">{escape(label)}</text>'
    yield "</g>"
    for each in sorted(frame.callees.values(), key=lambda callee: -callee.total):
        if each.total >= least:
            yield from _boxes(each, at, level + 1, scale, turns, least)
        at += each.total * scale


def svg(root: Frame, turns: float, title: str) -> str:
    """The picture: callers above what they called. *turns* are what the counts are of."""
    scale, least = WIDTH / root.total, root.total / WIDTH  # what has a pixel
    height = _depth(root, least) * HEIGHT + 30
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="monospace" font-size="11">',
            f'<text x="0" y="14">{escape(title)}</text>',
            *_boxes(root, 0, 0, scale, turns, least),
            "</svg>\n",
        )
    )


def of_turn(way: str, per_turn: int, counts: callgrind.Counts, path: Path) -> None:
    """Draw a turn of *way*, counted with :data:`OPTIONS`.

    Functions have names in a build that kept its symbols.
    """
    parts = {stack_of(name)[-1]: callgrind.part_of(binary) for binary, name in counts.by_function}
    title = f"{way}: a turn of {per_turn} buffers, user space, instructions by callgrind"
    root = single(tree(counts.by_function, parts))
    try:
        path.write_text(svg(root, counts.buffers / per_turn, title))
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror or error}") from None

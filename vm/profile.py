"""Where a receiver's instructions went: the plugin's blocks, by function."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vm import counting, host
from vm.counting import Symbols
from vm.guest import Guest

MIB = 1 << 20
MOST = 40
Profile = dict[str, dict[int, int]]
"""Instructions by context and by a block's address."""


def read(path: Path) -> dict[int, Profile]:
    """By run."""
    profiles: dict[int, Profile] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for line in path.read_text().splitlines():
        run, context, address, _, n = line.split()
        profiles[int(run)][context][int(address, 16)] += int(n)
    return profiles


class Where:
    """Names for the guest's code: the kernel's functions, those that programs export.

    A function that is not exported goes by the one before it, marked by a plus.
    """

    def __init__(self, guest: Guest, maps: Sequence[tuple[int, int, int, str]]) -> None:
        self._guest = guest
        self._maps = maps
        self._kernel = Symbols((counting.kallsyms() / counting.KALLSYMS).read_text())
        self._files: dict[str, Symbols | None] = {}

    def name(self, address: int) -> str:
        """File and function."""
        if address >> 63:
            return self._kernel.at(address)
        for start, end, offset, path in self._maps:
            if start <= address < end:
                file = Path(path).name or "?"
                symbols = self._of(path)
                return f"{file}: {symbols.at(address - start + offset)}" if symbols else file
        return "?"

    def _of(self, path: str) -> Symbols | None:
        if path not in self._files:
            self._files[path] = self._read(path) if path.startswith("/") else None
        return self._files[path]

    def _read(self, path: str) -> Symbols | None:
        done = self._guest.run(["cat", path])
        if done.returncode:  # no file any more: memory, a deleted one
            return None
        with tempfile.NamedTemporaryFile() as file:
            file.write(done.stdout)
            file.flush()
            text = host.run(["nm", "-D", "--defined-only", file.name], what="reading symbols")
            headers = host.run(["readelf", "-lW", file.name], what="reading segments")
        shift = _text_shift(headers.decode())
        lines = (line.split() for line in text.decode().splitlines())
        functions = [
            f"{int(parts[0], 16) - shift:x} t {parts[2].split('@')[0]}"
            for parts in lines
            if len(parts) == 3 and parts[1] in "tTwWi"
        ]
        return Symbols("\n".join(functions)) if len(functions) > 1 else None


def _text_shift(headers: str) -> int:
    """What a code address has over its offset in the file."""
    for line in headers.splitlines():
        parts = line.split()
        if parts[:1] == ["LOAD"] and any("E" in flags for flags in parts[6:-1]):
            return int(parts[2], 16) - int(parts[1], 16)
    return 0


def show(profile: Profile, where: Where, run: dict[str, Any]) -> Iterator[str]:
    """The dearest functions, in instructions for a MiB and for a chunk."""
    by_function: Counter[tuple[str, str]] = Counter()
    for context, blocks in profile.items():
        for address, n in blocks.items():
            by_function[context, where.name(address)] += n
    total = sum(by_function.values())
    size, chunks = run["bytes"] / MIB, max(run["chunks"], 1)
    yield f"{'profile':8} {'function':50} {'k/MiB':>9} {'a chunk':>9} {'share':>6}"
    for (context, name), n in by_function.most_common(MOST):
        yield (
            f"{context:8} {name[:50]:50} {n / size / 1e3:9.2f} {n / chunks:9.1f} "
            f"{100 * n / total:5.1f}%"
        )

"""What the counting plugin (vm/plugin/count.c) needs: itself, and the guest kernel's symbols."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vm import cache, host, image
from vm.config import Config
from vm.guest import Guest

SOURCE = Path(__file__).parent / "plugin"
COMPILER = [
    "gcc",
    "-O2",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
]
KALLSYMS = "kallsyms"
KINDS = {
    "handle_softirqs": "softirq",
    "__switch_to_asm": "switch",
    "rep_movs_alternative": "copy",
    "memcpy": "memcpy",
    "memcpy_orig": "memcpy",
    "copy_mc_to_kernel": "move",
}
IRQ_PREFIXES = ("asm_sysvec_", "asm_common_interrupt", "asm_spurious_interrupt")
EXCEPTION_PREFIX = "asm_exc_"


def plugin() -> cache.Entry:
    """A folder with ``count.so``."""
    files = sorted(SOURCE.glob("*.[ch]"))
    parts = [part for file in files for part in (file.name, file.read_bytes())]

    def make(folder: Path) -> None:
        host.run(
            [*COMPILER, "-o", folder / "count.so", SOURCE / "count.c"],
            what="building the counting plugin",
        )

    return cache.obtain("plugin", cache.key(*COMPILER, *parts), make, keep=2)


def kallsyms() -> cache.Entry:
    """A folder with the guest kernel's symbols: the kernel is not relocated (nokaslr), so
    they are the same at every boot. Read once an image."""

    def make(folder: Path) -> None:
        with (
            host.progress("reading the guest kernel's symbols"),
            Guest(Config(wheel="none")) as guest,
        ):
            (folder / KALLSYMS).write_text(guest.read_text("/proc/kallsyms"))

    return cache.obtain("kallsyms", cache.key(image.obtain().key), make, keep=2)


@dataclass(frozen=True, order=True)
class Symbol:
    """A function of the guest's kernel."""

    start: int
    end: int
    name: str


class Symbols:
    """The functions of a /proc/kallsyms text."""

    def __init__(self, text: str) -> None:
        named: dict[int, str] = {}
        for line in text.splitlines():
            address, kind, name, *_ = line.split()
            if kind in "tTwW":
                named.setdefault(int(address, 16), name)
        starts = sorted(named)
        ends = [*starts[1:], starts[-1] + 4096] if starts else []
        self._symbols = [Symbol(a, b, named[a]) for a, b in zip(starts, ends, strict=True)]
        self._starts = starts

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._symbols)

    def at(self, address: int) -> str:
        """The name of the function there, or the address."""
        i = bisect.bisect_right(self._starts, address) - 1
        return self._symbols[i].name if i >= 0 else hex(address)


def of_interest(symbols: Iterable[Symbol]) -> str:
    """The plugin's ``symbols`` file."""
    lines = []
    for symbol in symbols:
        kind = KINDS.get(symbol.name, "")
        if symbol.name.startswith(IRQ_PREFIXES):
            kind = "irq"
        elif symbol.name.startswith(EXCEPTION_PREFIX):
            kind = "exception"
        if kind:
            lines.append(f"{kind} {symbol.start:x} {symbol.end:x}\n")
    return "".join(lines)

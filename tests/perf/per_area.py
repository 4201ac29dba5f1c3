"""What registering an area takes of a machine's memory, beside the area, for each GiB of it.

``python3 per_area.py`` prints a line for each size, of NODEV: KiB that are free no longer, in
which of the kernel's accounts, and what of it is the process's own. As root, on a machine that
does nothing else::

    python -m vm run --memory 3072 --share tests:/tests -- python3 /tests/perf/per_area.py

Kernel: ``io_uring/zcrx.c:io_zcrx_create_area()`` has a struct net_iov and two counters for each
buffer, whoever registers it.
"""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pyzcrx
from pyzcrx._kernel.memory import PAGE

MIB = 1 << 20
SIZES_MIB = (64, 256, 512)
ACCOUNTS = ("MemFree", "Slab", "VmallocUsed", "PageTables")


def _kib(file: str, *names: str) -> list[int]:
    text = Path(file).read_text()
    found = (re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE) for name in names)
    return [int(match[1]) for match in found if match is not None]


def _now() -> list[int]:
    gc.collect()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return _kib("/proc/meminfo", *ACCOUNTS) + _kib("/proc/self/status", "RssAnon")


def main() -> None:
    for size_mib in SIZES_MIB:
        with pyzcrx.Area.anonymous(size_mib * MIB) as area, pyzcrx.Ring() as ring:
            area.view[::PAGE] = bytes(len(area.view) // PAGE)
            before = _now()
            ring.register_ifq(area)
            less, *more = (now - then for now, then in zip(_now(), before, strict=True))
        parts = zip((*ACCOUNTS[1:], "the process"), more, strict=True)
        print(
            f"{size_mib} MiB: {-less} KiB, {-less / size_mib:.1f} MiB a GiB; "
            + ", ".join(f"{name} {kib}" for name, kib in parts)
        )


if __name__ == "__main__":
    main()

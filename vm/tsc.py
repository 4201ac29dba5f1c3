"""How fast this machine's time stamp counter counts, which is also that of an emulated CPU.

A guest measures it against timers that a busy host serves late: it then takes 347 MHz for 2.6
GHz, its clock runs seven times too fast, and what waits there for a minute waits for eight
seconds. So it is told.

QEMU: ``accel/tcg``'s RDTSC reads the host's (``include/qemu/timer.h:cpu_get_host_ticks()``).
Kernel: ``arch/x86/kernel/tsc.c:determine_cpu_tsc_frequencies()`` (``tsc_early_khz``, 5.3).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import time
from collections.abc import Callable

_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl rdx, 32; or rax, rdx; ret"""
_MEASURED_S = 0.1
_TRIES = 20


@functools.cache
def khz() -> int | None:
    """It, to a thousandth or better; None: not an x86 machine, or it lets no code be made."""
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    with code:
        code.write(_CODE)
        place = ctypes.c_char.from_buffer(code)
        count = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        began_ns, began = _moment(count)
        time.sleep(_MEASURED_S)
        ended_ns, ended = _moment(count)
        del place
    return round((ended - began) * 1_000_000 / (ended_ns - began_ns))


def _moment(count: Callable[[], int]) -> tuple[int, int]:
    """The time and the counter, of the try that took least."""
    least: tuple[int, int, int] | None = None
    for _ in range(_TRIES):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        ticks = count()
        after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if least is None or after_ns - before_ns < least[0]:
            least = after_ns - before_ns, (before_ns + after_ns) // 2, ticks
    assert least is not None
    return least[1:]

"""How a leak is told from what a kernel keeps at hand."""

from __future__ import annotations

from functools import reduce

from tests.leaks import KernelHoldings
from tests.sim.test_unload import less_than_one_a_load


def added(vmalloc: int, nameless: int, **objects: int) -> KernelHoldings:
    return KernelHoldings(0, vmalloc, nameless, objects)


def test_what_grows_now_here_now_there_is_no_leak() -> None:
    seen = [added(-12, 28, inode_cache=292), added(4, -4), added(-24, 28)]
    assert not any(less_than_one_a_load(each, 4) for each in seen)
    least = reduce(KernelHoldings.least, seen)
    assert least == added(-24, -4)
    assert less_than_one_a_load(least, 4)


def test_what_grows_every_time_is_a_leak() -> None:
    for one in (added(4, 0), added(0, 5), added(0, 0, skbuff=9)):
        least = reduce(KernelHoldings.least, [one, added(90, 90, skbuff=90, other=1), one])
        assert least == one
        assert not less_than_one_a_load(least, 4)

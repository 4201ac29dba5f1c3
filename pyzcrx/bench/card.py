"""What the CPU copied, by whoever knows: the simulated NIC, the kernel, or the receiver's kind."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyzcrx._kernel.interface import find
from pyzcrx.bench.plan import BenchError, Plan
from pyzcrx.bench.receivers.catalogue import RECEIVERS
from pyzcrx.errors import NoSuchInterface

TIMEOUT_S = 60.0


def books(plan: Plan) -> dict[str, int]:
    """The simulated NIC's counters of our queues, added up; none of another NIC."""
    if plan.interface is None:
        return {}
    argv = ["ethtool", "-S", plan.interface]
    try:
        text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:  # nothing else of ours needs it
        return {}
    found = counted(text, plan.queues)
    return found if "zc_bytes" in found else {}


def wait_free(plan: Plan) -> None:
    """Until no ifq is bound to our queues: what comes by one then cannot be read by us.

    Nothing to wait for without a NIC, or where it is gone.
    """
    if plan.interface is None:
        return
    from pyzcrx.nic.read import Reader  # pyroute2's import is slow

    try:
        index = find(plan.interface).index
    except NoSuchInterface:
        return
    with Reader() as kernel:
        held = kernel._netdev.wait_unbound(index, plan.queues, TIMEOUT_S) if kernel._netdev else ()
    if held:
        raise BenchError(
            f"{plan.interface}, queue {held[0]} is still bound: end who has it (zcrx-doctor)"
        )


@contextmanager
def freed(plan: Plan) -> Iterator[None]:
    """:func:`wait_free` behind the block; where that ends by an error, a note must do."""
    try:
        yield
    except BaseException as error:
        try:
            wait_free(plan)
        except BenchError as held:
            error.add_note(str(held))
        raise
    wait_free(plan)


def counted(text: str, queues: Sequence[int]) -> dict[str, int]:
    """Counters such as ``rx1_zc_bytes`` of ``ethtool -S``, by what follows the queue's number."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        name, _, value = line.strip().partition(": ")
        queue, _, counter = name.partition("_")
        if queue in {f"rx{number}" for number in queues} and value.isdecimal():
            found[counter] += int(value)
    return dict(found)


def copied(
    plan: Plan, name: str, figures: dict[str, Any], before: dict[str, int], after: dict[str, int]
) -> float | None:
    """How often the CPU copied each received byte, after the NIC's DMA; None: unknown."""
    size_bytes: int = figures["bytes"]
    receiver = RECEIVERS.get(name)
    if receiver is not None and receiver.copies is not None:
        return receiver.copies
    if receiver is not None and not receiver.zcrx:
        return round(int(figures["bytes_copied"]) / size_bytes, 4)
    if plan.interface is None:
        return 1.0
    if before and after:
        zero_copy = after["zc_bytes"] - before["zc_bytes"]
        by_send = int(figures.get("bytes_sent_by_copy", 0))
        return round((max(0, size_bytes - zero_copy) + by_send) / size_bytes, 4)
    return None

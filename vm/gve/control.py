"""The control socket: a line of JSON asks, a line of JSON answers.

    {"nic": 0, "faults": {"drop": 1000}}    set faults of the frames to a NIC, and of it
    {"nic": 0, "do": "reset"}               have it want a reset; "link down", "link up", "clear"
    {"nic": 0}                              only the answer

The answer has the books of that NIC, or ``error``. A guest reaches it by a virtio port.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vm.gve.device import Gvnic
from vm.gve.faults import NoSuchFault

LONGEST = 1 << 16


class Refused(Exception):
    """A request that is none."""


def answer(nics: Sequence[Gvnic], line: bytes) -> bytes:
    """To one request; it is never without."""
    try:
        found = _do(nics, json.loads(line))
    except (ValueError, Refused, NoSuchFault) as error:
        found = {"error": str(error)}
    return json.dumps(found).encode() + b"\n"


def _do(nics: Sequence[Gvnic], request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not request.keys() <= {"nic", "faults", "do"}:
        raise Refused('a request has "nic", and "faults" or "do"')
    number = request.get("nic")
    if not isinstance(number, int) or not 0 <= number < len(nics):
        raise Refused(f"there is no NIC {number!r}")
    nic = nics[number]
    if (faults := request.get("faults")) is not None:
        if not isinstance(faults, dict):
            raise Refused("faults are names and numbers")
        nic.faults.set(faults)
    match request.get("do"):
        case None:
            pass
        case "reset":
            nic.want_reset()
        case "link down" | "link up" as wanted:
            for each in (nic, nic.peer):
                each.set_link(up=wanted == "link up")
        case "clear":
            nic.faults.clear()
        case unknown:
            raise Refused(f"no such thing to do: {unknown!r}")
    return books(nic)


def books(nic: Gvnic) -> dict[str, Any]:
    """All that a NIC has counted, and how it stands."""
    return {
        "books": dict(nic.books),
        "queues": {number: dict(counts) for number, counts in sorted(nic.of_queues.items())},
        "free": {number: queue.free for number, queue in sorted(nic.rx.items())},
        "rings": {number: queue.setting.buffers for number, queue in sorted(nic.rx.items())},
        "interrupts": nic.interrupts.fired,
        "faults": asdict(nic.faults),
        "link": nic.link.up,
        "driver": nic.version.decode(errors="replace"),
    }

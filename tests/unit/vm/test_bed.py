"""Both beds are laid out anew, and count what zcrx0 received by where it lies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from vm import module
from vm.bed import Bed, Modelled, Simulated, must
from vm.errors import BuildFailed
from vm.guest import Guest
from vm.process import Completed


class Machine:
    """Answers a guest's commands."""

    def __init__(self, answer: str = "", status: int = 0) -> None:
        self.ran: list[Sequence[str]] = []
        self._done = Completed([], status, answer.encode(), b"the reason\n")

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        self.ran.append(argv)
        return self._done


def guest(machine: Machine) -> Guest:
    return cast(Guest, machine)


@pytest.mark.parametrize(
    ("bed", "driver", "script"),
    [
        (Simulated(6), "zcrxsim", [f"{module.GUEST_FOLDER}/setup", "queues=6"]),
        (Modelled(), "gve", ["/run/pyzcrx/gve/setup"]),
    ],
)
def test_a_new_pair_takes_the_place_of_the_old(bed: Bed, driver: str, script: list[str]) -> None:
    machine = Machine()
    bed.lay_out(guest(machine))
    assert machine.ran[0] == ["rmmod", driver]
    assert list(machine.ran[-1][: len(script)]) == script


def test_counts() -> None:
    text = "NIC:\n rx_zc_bytes: 5\n rx_page_bytes: 6\n rx_linear_bytes: 7\n other: 8\n"
    assert list(Simulated(4).counted(guest(Machine(text))).values()) == [5, 6, 7]
    books = {"queues": {"0": {"whole_bytes": 3}, "1": {"split_bytes": 4}, "2": {}}}
    counted = Modelled().counted(guest(Machine(json.dumps(books))))
    assert counted == {"split_bytes": 4, "whole_bytes": 3}


def test_a_command_that_must_work_and_does_not() -> None:
    with pytest.raises(BuildFailed, match="ip failed in the guest") as caught:
        must(guest(Machine(status=1)), ["ip"])
    assert caught.value.details == ("the reason",)

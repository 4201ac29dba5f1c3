"""The control socket: each request is answered, and a bad one changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.vm.gve.driver import pair
from vm.gve import control
from vm.gve.device import Gvnic


@pytest.fixture
def nics() -> tuple[Gvnic, Gvnic]:
    one, other = pair()
    return one.nic, other.nic


def ask(nics: tuple[Gvnic, Gvnic], **request: Any) -> dict[str, Any]:
    return dict(json.loads(control.answer(nics, json.dumps(request).encode())))


def test_books_and_faults(nics: tuple[Gvnic, Gvnic]) -> None:
    answer = ask(nics, nic=1, faults={"drop": 10, "seed": 2})
    assert answer["faults"]["drop"] == nics[1].faults.drop == 10
    assert nics[0].faults.drop == 0
    assert ask(nics, nic=1, do="clear")["faults"]["drop"] == 0


def test_link_and_reset(nics: tuple[Gvnic, Gvnic]) -> None:
    assert ask(nics, nic=0, do="link down")["link"] is False
    assert [nic.link.up for nic in nics] == [False, False]
    assert ask(nics, nic=1, do="link up")["link"] is True
    ask(nics, nic=0, do="reset")
    assert nics[0].status & 2
    assert not nics[1].status & 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"nic": 2}',
        b'{"nic": "0"}',
        b'{"nic": 0, "what": 1}',
        b'{"nic": 0, "do": "explode"}',
        b'{"nic": 0, "faults": 3}',
        b'{"nic": 0, "faults": {"drop": 1, "nonsense": 1}}',
        b'{"nic": 0, "faults": {"drop": 1, "late": "x"}}',
        b'{"nic": 0, "faults": {"drop": 1000001}}',
    ],
)
def test_a_bad_request_is_told_so(nics: tuple[Gvnic, Gvnic], line: bytes) -> None:
    answer = json.loads(control.answer(nics, line))
    assert set(answer) == {"error"}
    assert not nics[0].faults.of_frames

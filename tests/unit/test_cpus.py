"""Why a CPU cannot be used: it does not exist, is offline, or is not ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyzcrx._kernel import cpus
from pyzcrx.errors import BadArgument
from pyzcrx.nic import Wanted, prepare
from pyzcrx.nic.irq import check_cpus
from pyzcrx.placement import choose, pin


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs 0 to 3, of which 0 never goes offline and 2 is offline."""
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}").mkdir()
    for cpu, state in ((1, "1"), (2, "0"), (3, "1")):
        (tmp_path / f"cpu{cpu}" / "online").write_text(f"{state}\n")
    for other in ("cpufreq", "cpuidle", "power"):
        (tmp_path / other).mkdir()
    monkeypatch.setattr(cpus, "SYSFS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


ALLOWED = {0, 1}
ABSENT = [
    (4, r"CPU 4 does not exist \(online are 0,1,3\); see lscpu"),
    (1 << 70, r"CPU \d+ (does not exist|is not between 0 and)"),
    (2, r"CPU 2 is offline \(0,1,3 are online\); echo 1 > .*/cpu2/online"),
]
NOT_OURS = (3, r"CPU 3 is not among those that this process may use \(0,1\); see taskset")


@pytest.mark.parametrize(("cpu", "text"), [*ABSENT, NOT_OURS])
def test_one_to_run_on(cpu: int, text: str) -> None:
    with pytest.raises(BadArgument, match=text):
        cpus.check_allowed({0, cpu})
    with pytest.raises(BadArgument, match=text):
        choose(cpu, frozenset(), ALLOWED)


@pytest.mark.parametrize(("cpu", "text"), ABSENT)
def test_one_for_anything(cpu: int, text: str) -> None:
    for check in (cpus.check_exist, pin):
        with pytest.raises(BadArgument, match=text):
            check({0, cpu})


@pytest.mark.parametrize(
    ("cpus_text", "text"), [("0-3", "CPU 2 is offline"), ("1,4", "CPU 4 does")]
)
def test_those_of_interrupts(cpus_text: str, text: str) -> None:
    with pytest.raises(BadArgument, match=text):
        check_cpus(cpus_text)
    with pytest.raises(BadArgument, match=text):
        prepare("nosuch0", irq_cpus=cpus_text)
    Wanted(irq_cpus=cpus_text)  # a plan may be for another machine


@pytest.mark.parametrize("usable", [(), {0}, {0, 1}])
def test_usable(usable: Iterable[int]) -> None:
    cpus.check_allowed(usable)
    cpus.check_exist({*usable, 3})
    check_cpus("0-1,3")
    check_cpus(None)


def test_where_it_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "SYSFS", tmp_path / "nothing")
    cpus.check_exist({999})
    with pytest.raises(BadArgument, match="CPU 999 is not among"):
        cpus.check_allowed({999})

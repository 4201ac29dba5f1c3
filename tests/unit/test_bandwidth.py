"""Memory traffic: found where it is counted, said to be absent where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyzcrx.bench import bandwidth
from pyzcrx.bench.bandwidth import Unavailable, controllers, counted, event_config, resctrl_bytes


def test_resctrl_sums_its_domains(tmp_path: Path) -> None:
    for domain, n in ("mon_L3_00", 5), ("mon_L3_01", 7):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "mbm_total_bytes").write_text(f"{n}\n")
    assert resctrl_bytes(tmp_path) == 12
    (tmp_path / "mon_L3_01" / "mbm_total_bytes").write_text("Unavailable\n")
    with pytest.raises(Unavailable, match="cannot be read"):
        resctrl_bytes(tmp_path)


def test_events_by_the_formats_of_their_pmu() -> None:
    formats = {"event": "config:0-7\n", "umask": "config:8-15\n", "far": "config1:0-7\n"}
    assert event_config("event=0x04,umask=0x03\n", formats) == 0x304
    for text in "far=1", "unknown=1":
        with pytest.raises(Unavailable, match="beyond us"):
            event_config(text, formats)


def test_memory_controllers_are_found(tmp_path: Path) -> None:
    pmu = tmp_path / "uncore_imc_0"
    for name, text in {
        "type": "20\n",
        "cpumask": "0,16\n",
        "format/event": "config:0-7\n",
        "format/umask": "config:8-15\n",
        "events/cas_count_read": "event=0x04,umask=0x03\n",
        "events/cas_count_read.scale": "6.103515625e-5\n",
    }.items():
        (pmu / name).parent.mkdir(parents=True, exist_ok=True)
        (pmu / name).write_text(text)
    assert list(controllers(tmp_path)) == [(20, 0x304, 0, 64.0), (20, 0x304, 16, 64.0)]


def test_a_machine_without_either_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth.resctrl_bytes, "__defaults__", (tmp_path,))
    monkeypatch.setattr(bandwidth.controllers, "__defaults__", (tmp_path,))
    with counted() as (traffic, why):
        assert traffic is None
    assert "no resctrl MBM" in why
    assert "no memory controller" in why

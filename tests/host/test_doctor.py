"""The doctor on whatever machine this is: it reads, changes nothing, and needs no privilege."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyzcrx import doctor, nic
from pyzcrx.probe import Presence
from tests.leaks import nothing_leaks

COMMAND = [sys.executable, "-P", "-m", "pyzcrx.cli.doctor"]
UNPRIVILEGED = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")


def test_reads_and_changes_nothing() -> None:
    before = nic.read("lo")
    with nothing_leaks():
        facts = doctor.read("lo")
        found = {finding.id: finding for finding in doctor.examine(facts)}
    assert found["card.driver"].severity is doctor.Severity.PROBLEM
    assert "no device that does DMA" in found["card.driver"].what
    assert facts.kernel.probe.kernel == os.uname().release
    assert facts.memory.page_bytes == os.sysconf("SC_PAGESIZE")
    assert facts.machine.cpus == os.sched_getaffinity(0)
    assert nic.read("lo") == before


def test_the_command() -> None:
    done = run(*COMMAND, "-i", "lo", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ready"] is False
    assert not done.stderr
    plain = run(*COMMAND)
    assert plain.returncode in (0, 1)
    assert plain.stdout.splitlines()[-1].startswith("not ready" if plain.returncode else "ready")


def test_without_privilege() -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("expected: only root with setpriv(1) can drop privileges here")
    done = run(*UNPRIVILEGED, *COMMAND, "--json")
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("expected: this checkout is not readable to others")
    said = {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert said["privilege.net_admin"]["severity"] == "problem"
    assert "run as root" in said["privilege.net_admin"]["hint"]


def test_no_such_interface() -> None:
    done = run(*COMMAND, "-i", "nosuch0")
    assert done.returncode == 1
    assert done.stderr.startswith("zcrx-doctor: find interface (nosuch0): ENODEV")
    assert len(done.stderr.splitlines()) == 1


def test_the_kernels_configuration_is_found() -> None:
    facts = doctor.read(None)
    if facts.kernel.config is None:
        assert "can be read" in facts.kernel.config_source
    else:
        assert facts.kernel.config["NET"] == "y"
        assert Path(facts.kernel.config_source).exists()


def test_a_trial_on_a_device_without_dma() -> None:
    with nothing_leaks():
        facts = doctor.read("lo", doctor.Wanted(0, area_bytes=1 << 20))
        found = doctor.try_out(facts, doctor.examine(facts))
    assert found.severity is doctor.Severity.PROBLEM
    probe = facts.kernel.probe
    if probe.ready:
        assert "fails with EOPNOTSUPP: lo" in found.what
        assert "no device that does DMA" in found.what
    elif probe.zcrx is Presence.PRESENT:
        assert "fails with EPERM" in found.what


def test_a_trial_of_nodev() -> None:
    with nothing_leaks():
        facts = doctor.read(None, doctor.Wanted(area_bytes=1 << 20))
        found = doctor.try_out(facts, doctor.examine(facts))
    if not facts.kernel.probe.ready:
        assert found.severity is doctor.Severity.PROBLEM
    elif facts.kernel.probe.nodev:
        assert found.severity is doctor.Severity.OK
    else:
        assert "fails with EINVAL: this kernel has no ZCRX_REG_NODEV" in found.what

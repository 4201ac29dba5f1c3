"""Folders of work under way go with the work, at the latest when the next one comes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vm import scratch

ROOT = Path(__file__).parents[3]
PREFIX = "making-"
MAKER = """
import sys
from pathlib import Path
from vm import external, scratch
with scratch.folder(Path(sys.argv[1]), "making-") as path:
    (path / "half").touch()
    external.run(["sh", "-c", sys.argv[2]], grace_s=1000)
"""


def test_it_goes_with_its_context(tmp_path: Path) -> None:
    with scratch.folder(tmp_path, PREFIX) as path:
        (path / "sub").mkdir()
    assert not list(tmp_path.iterdir())


def test_it_goes_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch.folder(tmp_path, PREFIX):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_what_was_renamed_stays(tmp_path: Path) -> None:
    with scratch.folder(tmp_path, PREFIX) as path:
        path.rename(tmp_path / "made")
    assert [each.name for each in tmp_path.iterdir()] == ["made"]


def test_a_sweep_leaves_what_is_at_work(tmp_path: Path) -> None:
    with scratch.folder(tmp_path, PREFIX) as path:
        scratch.sweep(tmp_path, PREFIX)
        assert path.is_dir()


def test_a_sweep_takes_only_folders_of_that_name(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "other")
    scratch.sweep(tmp_path, PREFIX)
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {f"{PREFIX}file", f"{PREFIX}link", "other"}


def test_the_dead_are_swept_when_their_programs_are_dead_too(tmp_path: Path) -> None:
    """The maker is killed; its program, which ignores the signal, still holds the folder."""
    script = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
    argv = [sys.executable, "-c", MAKER, str(tmp_path), script]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) as maker:
        assert maker.stdout
        program = int(maker.stdout.readline())
        gone = os.pidfd_open(program)
        maker.kill()
        maker.wait()
        scratch.sweep(tmp_path, PREFIX)
        assert len(list(tmp_path.iterdir())) == 1
        keeper = os.pidfd_open(int(Path(f"/proc/{program}/stat").read_text().split()[3]))
        signal.pidfd_send_signal(gone, signal.SIGKILL)
        for each in (gone, keeper):
            assert select.select([each], [], [], 30)[0]
            os.close(each)
    scratch.sweep(tmp_path, PREFIX)
    assert not list(tmp_path.iterdir())

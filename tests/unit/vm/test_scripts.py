"""What scripts/ have in common: nothing outlives them, and what they install is enough."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from vm import bootstrap, host, image, kbuild

SCRIPTS = Path(__file__).parents[3] / "scripts"
COMMON = (SCRIPTS / "common.sh").read_text()
FAMILY = "sh -c 'echo $$ >&2; exec sleep 1000' & echo $$ >&2; wait"
STATUSES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A place for a script that sources the real file."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "common.sh").symlink_to(SCRIPTS / "common.sh")
    return folder / "under-test"


def command(script: Path, text: str) -> list[str]:
    script.write_text(f'#!/bin/sh\nset -eu\n. "$(dirname "$0")/common.sh"\n{text}\n')
    script.chmod(0o755)
    return [str(script)]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **more}


@pytest.mark.parametrize("number", list(STATUSES))
@pytest.mark.parametrize("how", ["run", "output_of"])
def test_a_signal_ends_what_runs(
    tmp_path: Path, script: Path, number: signal.Signals, how: str
) -> None:
    """With its children, and temporary files go."""
    argv = command(script, f"{how} sh -c {shlex.quote(FAMILY)}")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        argv,
        stderr=subprocess.PIPE,
        env=environment(tmp_path, TMPDIR=str(temporary)),
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stderr
        family_fds = [
            os.pidfd_open(int(pid))
            for pid in (process.stderr.readline(), process.stderr.readline())
        ]
        process.send_signal(number)
        assert process.wait(30) == STATUSES[number]
        for fd in family_fds:
            assert select.select([fd], [], [], 30)[0]
            os.close(fd)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(("then", "status"), [("run sleep 1000", 143), ("die no", 1), ("true", 0)])
def test_what_runs_meanwhile_ends_with_the_script(
    tmp_path: Path, script: Path, then: str, status: int
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    beside = f"echo $$ >{pipe}; exec sleep 1000"
    argv = command(script, f"meanwhile sh -c {shlex.quote(beside)}; cat {pipe}; read -r _; {then}")
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(tmp_path),
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as process:
        assert process.stdin
        assert process.stdout
        fd = os.pidfd_open(int(process.stdout.readline()))
        process.stdin.write(b"\n")
        process.stdin.flush()
        if status == STATUSES[signal.SIGTERM]:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == status
        assert select.select([fd], [], [], 30)[0]
        os.close(fd)


def test_status_and_output(tmp_path: Path, script: Path) -> None:
    text = 'output_of echo one two; echo "<$printed>"; run sh -c "exit 3" || echo $?'
    done = subprocess.run(
        command(script, text), env=environment(tmp_path), capture_output=True, check=True
    )
    assert done.stdout == b"<one two>\n3\n"


PYTHON = """#!/bin/sh
case "$*" in
"-m vm wheel") echo "$WHEEL" ;;
*" --no-deps "*) echo "begin $WHEEL" >>"$LOG"; sleep 0.2; echo "end $WHEEL" >>"$LOG" ;;
esac
"""
"""In the place of the environment's: it builds nothing, and notes what it installs."""


def test_runs_beside_each_other_have_the_pyzcrx_that_they_built(
    tmp_path: Path, script: Path
) -> None:
    """Who built another waits until it is used no longer, also by what was executed."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    log = tmp_path / "log"
    quoted = shlex.quote(str(tmp_path))
    use = 'exec sh -c \'echo "use $WHEEL" >>"$LOG"; sleep 0.3; echo "done $WHEEL" >>"$LOG"\''
    argv = command(script, f"venv={quoted}; python={python}; wheel; {use}")
    runs = [
        subprocess.Popen(argv, env=environment(tmp_path, WHEEL=wheel, LOG=str(log)))
        for wheel in ("a", "a", "b", "a", "b")
    ]
    assert [run.wait(60) for run in runs] == [0] * 5
    told = [line.split() for line in log.read_text().splitlines()]
    assert sum(what == "use" for what, _ in told) == 5
    there, used, begun = "", 0, False
    for what, wheel in told:
        if what == "begin":
            assert not used
            assert not begun
        there = {"begin": "", "end": wheel}.get(what, there)
        begun = what == "begin" or (begun and what != "end")
        used += {"use": 1, "done": -1}.get(what, 0)
        assert what not in ("use", "done") or wheel == there
    assert sum(what == "begin" for what, _ in told) <= 4


def test_too_little_room_is_one_line(tmp_path: Path, script: Path) -> None:
    argv = command(script, 'room "$cache" 999999999; echo not reached')
    done = subprocess.run(
        argv, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"under-test: not enough space: \S+/cache/pyzcrx has \d+ MiB free, 999999999 MiB are"
        r" needed: .*\n",
        done.stderr,
    )


def packages(name: str) -> set[str]:
    found = re.search(rf'^{name}="([^"]*)"', COMMON, re.MULTILINE)
    assert found
    return set(found[1].replace("\\\n", " ").split())


def test_scripts_install_every_program_that_is_started() -> None:
    """But for what Debian always has, and what builds a developer's own kernel."""
    essential = {"dpkg", "tar", "util-linux"}
    own_kernel = {host.PACKAGES[tool] for tool in (*kbuild.TOOLS, kbuild.HEADER)} - {"make", "gcc"}
    needed = set(host.PACKAGES.values()) - essential - own_kernel
    installed = {"build_packages", "guest_packages", "test_packages"}
    assert needed - {"socat"} <= set.union(*map(packages, installed))
    assert "socat" in (SCRIPTS / "demo").read_text()


def test_every_program_has_a_package() -> None:
    """Each literal that is asked for anywhere in vm."""
    asked = {*kbuild.TOOLS, *image.TOOLS, *bootstrap.tools()}
    for path in (SCRIPTS.parent / "vm").glob("*.py"):
        for call in re.findall(r"host\.need\(([^)]*)\)", path.read_text()):
            asked |= set(re.findall(r'"([\w.-]+)"', call))
        for name in re.findall(r'host\.run\(\s*\[\s*"([\w.-]+)"', path.read_text()):
            asked.add(name)
    assert {"make", "mmdebstrap", "debugfs", "cmake"} <= asked
    assert asked <= set(host.PACKAGES)

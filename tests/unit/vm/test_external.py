"""An external program ends with us, with all that it started; it gets the descriptors it shall."""

from __future__ import annotations

import ast
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vm import external

ROOT = Path(__file__).parents[3]
FAMILY = """
echo $$
sh -c 'echo $$; exec sleep 1000' &
setsid sh -c 'echo $$; exec sleep 1000' &
wait
"""
"""Says three pids: itself, a child, and one in a session of its own."""


def pidfds(process: subprocess.Popen[bytes], count: int) -> list[int]:
    assert process.stdout
    return [os.pidfd_open(int(process.stdout.readline())) for _ in range(count)]


def assert_gone(fds: list[int]) -> None:
    for fd in fds:
        assert select.select([fd], [], [], 30)[0], "a process outlived us"
        os.close(fd)


def test_output_and_status() -> None:
    done = external.run(["sh", "-c", "echo out; echo err >&2; exit 7"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_standard_input_is_empty_unless_it_is_given(tmp_path: Path) -> None:
    assert external.run(["cat"], capture_output=True).stdout == b""
    (tmp_path / "file").write_bytes(b"given")
    with (tmp_path / "file").open("rb") as file:
        assert external.run(["cat"], stdin=file, capture_output=True).stdout == b"given"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_death_by_signal(number: signal.Signals) -> None:
    assert external.run(["sh", "-c", f"kill -{int(number)} $$"]).returncode == -number


def test_a_program_that_is_not_there() -> None:
    done = external.run(["/nonexistent"], capture_output=True)
    assert (done.returncode, done.stderr) == (127, b"/nonexistent: No such file or directory\n")


def test_signals_are_as_a_program_expects() -> None:
    done = external.run(["sed", "-n", "/^Sig[IBC]/p", "/proc/self/status"], capture_output=True)
    assert [int(line.split()[1], 16) for line in done.stdout.splitlines()] == [0, 0, 0]


PLACED = """
import os, subprocess, sys
from vm import external
source, target, ours = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], 1), int(sys.argv[3])
os.dup2(source, ours)
script = "cat /proc/self/fd/100 >&9; echo /proc/self/fd/*"
with external.started(["sh", "-c", script], places={9: target, 100: ours}) as process:
    process.wait()
"""


@pytest.mark.parametrize("ours", [9, 100, 109])
def test_descriptors_get_their_numbers_whatever_ours_are(tmp_path: Path, ours: int) -> None:
    """And the program has no other: the low numbers are free."""
    (tmp_path / "in").write_text("content")
    (tmp_path / "out").touch()
    argv = [sys.executable, "-c", PLACED, str(tmp_path / "in"), str(tmp_path / "out"), str(ours)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True)
    assert (tmp_path / "out").read_text() == "content"
    numbers = {int(Path(each).name) for each in done.stdout.decode().split()}
    folder = min(numbers - {0, 1, 2})  # by which the shell reads them
    assert numbers - {folder} == {0, 1, 2, 9, 100}


@pytest.mark.parametrize("limits", ["-Sn 64", "-Sn 4096"])
def test_descriptors_whatever_the_soft_limit_is(tmp_path: Path, limits: str) -> None:
    """Too low for their numbers; so high that ours are beyond what select() takes."""
    (tmp_path / "in").write_text("content")
    (tmp_path / "out").touch()
    ours = "2000" if "4096" in limits else "9"
    argv = [sys.executable, "-c", PLACED, str(tmp_path / "in"), str(tmp_path / "out"), ours]
    done = subprocess.run(
        ["sh", "-c", f'ulimit {limits}; exec "$@"', "sh", *argv], cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "content"


def test_the_end_of_the_context_ends_the_whole_family() -> None:
    with external.started(["sh", "-c", FAMILY], stdout=subprocess.PIPE) as process:
        family = pidfds(process, 3)
    assert_gone(family)


def test_what_stays_in_spite_of_the_signal_is_killed() -> None:
    script = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
    with external.started(["sh", "-c", script], stdout=subprocess.PIPE, grace_s=0.1) as process:
        stubborn = pidfds(process, 1)
    assert_gone(stubborn)


def test_what_a_program_leaves_behind_ends() -> None:
    script = "setsid sh -c 'echo $$; exec sleep 1000' & read line; exit 3"
    read, write = os.pipe()
    with external.started(["sh", "-c", script], stdin=read, stdout=subprocess.PIPE) as process:
        left = pidfds(process, 1)
        os.close(write)
        assert process.wait(30) == 3
        assert_gone(left)
    os.close(read)


def test_an_error_in_the_context_is_raised_after_the_end() -> None:
    family: list[int] = []

    def fail() -> None:
        with external.started(["sh", "-c", FAMILY], stdout=subprocess.PIPE) as process:
            family.extend(pidfds(process, 3))
            raise RuntimeError("of a test")

    with pytest.raises(RuntimeError, match="of a test"):
        fail()
    assert_gone(family)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_our_own_death_ends_it(number: signal.Signals) -> None:
    program = f"from vm import external; external.run(['sh', '-c', {FAMILY!r}])"
    caller = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    with caller:
        family = pidfds(caller, 3)
        caller.send_signal(number)
    assert_gone(family)


STARTERS = {
    "external.py": "the one place for programs",
    "keeper.py": "its other half",
    "session.py": "QEMU, which dies with the thread that reads from it",
    "accel.py": "QEMU, which dies with us and takes ten seconds at most",
    "lane.py": "a process of our own, which does its own cleaning up",
}
"""What may start a process, and why that one does not outlive us."""
STARTING = {
    *(f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")),
    *("os.fork", "os.forkpty", "os.system", "os.popen", "os.posix_spawn", "os.execvp"),
}


def starts_processes(path: Path) -> bool:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return any(ast.unparse(call.func) in STARTING for call in calls)


def test_programs_are_started_in_one_place() -> None:
    found = {path.name for path in (ROOT / "vm").glob("*.py") if starts_processes(path)}
    assert found == set(STARTERS)

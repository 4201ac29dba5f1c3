"""Commands through the real agent: what a caller sees is what the command did."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from vm.errors import CannotExecute, CommandTimeout, KernelSplat, LostGuest
from vm.frames import WINDOW
from vm.session import Session

from .conftest import Spawn


def test_status_and_separate_streams(spawn: Spawn) -> None:
    done = spawn("sh", "-c", "echo out; echo err >&2; exit 7").wait(30)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert done.exit_status == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_signal(spawn: Spawn, number: signal.Signals) -> None:
    done = spawn("sh", "-c", f"kill -{int(number)} $$").wait(30)
    assert done.returncode == -number
    assert done.exit_status == 128 + number


def test_environment_and_folder(spawn: Spawn, tmp_path: Path) -> None:
    done = spawn("sh", "-c", "pwd; echo $MARK; env | wc -l").wait(30)
    assert done.stdout.split() == [str(tmp_path).encode(), b"here", b"3"]  # PWD by sh


def test_signals_are_as_a_program_expects(spawn: Spawn) -> None:
    done = spawn("sed", "-n", "/^Sig[IBC]/p", "/proc/self/status").wait(30)
    assert [int(line.split()[1], 16) for line in done.stdout.splitlines()] == [0, 0, 0]


def test_no_fds_but_three(spawn: Spawn) -> None:
    done = spawn("sh", "-c", "ls /proc/$$/fd").wait(30)
    assert done.stdout.split() == [b"0", b"1", b"2"]


def test_stdin_is_empty_by_default(spawn: Spawn) -> None:
    assert spawn("cat").wait(30).stdout == b""


def test_both_directions_binary_clean_and_beyond_every_window(spawn: Spawn) -> None:
    data = random.Random(1).randbytes(8 * WINDOW + 12345)
    done = spawn("cat", input=data).wait(60)
    assert done.stdout == data


def test_stdin_from_a_descriptor(spawn: Spawn) -> None:
    read, write = os.pipe()
    process = spawn("cat", input=read)
    os.write(write, b"first")
    process.wait_for_output(b"first", 30)
    os.write(write, b" second")
    os.close(write)
    assert process.wait(30).stdout == b"first second"
    os.close(read)


def test_a_command_that_ignores_its_stdin(spawn: Spawn) -> None:
    done = spawn("true", input=bytes(4 * WINDOW)).wait(30)
    assert done.returncode == 0


def test_a_command_that_closes_its_stdin(spawn: Spawn) -> None:
    done = spawn("sh", "-c", "exec <&-; echo on", input=bytes(4 * WINDOW)).wait(30)
    assert (done.returncode, done.stdout) == (0, b"on\n")


@pytest.mark.parametrize(("command", "status"), [("nonesuch", 127), ("/etc/passwd", 126)])
def test_no_such_command(spawn: Spawn, command: str, status: int) -> None:
    with pytest.raises(CannotExecute, match=command) as caught:
        spawn(command).wait(30)
    assert caught.value.exit_code == status
    assert spawn("true").wait(30).returncode == 0


def test_a_slow_reader_stops_only_its_own_command(spawn: Spawn) -> None:
    go_on = threading.Event()
    received = bytearray()

    def slow(data: bytes) -> None:
        assert go_on.wait(30)
        received.extend(data)

    slow_one = spawn("head", "-c", str(4 * WINDOW), "/dev/zero", stdout=slow)
    stuck_one = spawn("sleep", "1000", input=bytes(4 * WINDOW))
    assert spawn("echo", "through").wait(30).stdout == b"through\n"
    go_on.set()
    assert slow_one.wait(30).returncode == 0
    assert bytes(received) == bytes(4 * WINDOW)
    stuck_one.kill()
    assert stuck_one.wait(30).returncode == -signal.SIGKILL


def test_output_before_the_exit_is_all_there(spawn: Spawn) -> None:
    """Also when the window is shut as the command ends: the rest follows."""
    go_on = threading.Event()
    sizes: list[int] = []

    def late(data: bytes) -> None:
        assert go_on.wait(30)
        sizes.append(len(data))

    count = WINDOW + 40000  # the last 40000 fit the pipe, and the command ends
    process = spawn("head", "-c", str(count), "/dev/zero", stdout=late)
    assert spawn("true").wait(30).returncode == 0
    go_on.set()
    process.wait(30)
    assert sum(sizes) == count


def test_many_at_once(spawn: Spawn) -> None:
    processes = [spawn("sh", "-c", f"cat; exit {n}", input=b"%d" % n) for n in range(20)]
    for number, process in enumerate(processes):
        done = process.wait(60)
        assert (done.returncode, done.stdout) == (number, b"%d" % number)


def test_time_out_ends_the_whole_group(spawn: Spawn, tmp_path: Path) -> None:
    process = spawn("sh", "-c", "sleep 1000 & echo $! > child; echo begun; wait")
    process.wait_for_output(b"begun", 30)
    with pytest.raises(CommandTimeout, match=r"did not end within 0\.1 s") as caught:
        process.wait(0.1)
    assert caught.value.stdout == b"begun\n"
    child = int((tmp_path / "child").read_text())
    assert _gone(child)


def test_time_out_of_a_stubborn_command(spawn: Spawn) -> None:
    process = spawn("sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done")
    process.wait_for_output(b"begun", 30)
    process.terminate(grace=0.2)
    assert process.wait(30).returncode == -signal.SIGKILL


def test_signal(spawn: Spawn) -> None:
    process = spawn(
        "sh", "-c", "trap 'echo got; exit 3' INT; echo begun; while :; do sleep 0.1; done"
    )
    process.wait_for_output(b"begun", 30)
    process.signal(signal.SIGINT)
    done = process.wait(30)
    assert (done.returncode, done.stdout) == (3, b"begun\ngot\n")


def test_output_that_never_comes(spawn: Spawn) -> None:
    with pytest.raises(CommandTimeout, match="ended"):
        spawn("echo", "other").wait_for_output(b"wanted", 30)
    process = spawn("sleep", "1000")
    with pytest.raises(CommandTimeout, match="within"):
        process.wait_for_output(b"wanted", 0.1)
    process.kill()


def test_a_sink_that_fails(spawn: Spawn) -> None:
    def fail(_data: bytes) -> None:
        raise BrokenPipeError("reader has left")

    with pytest.raises(BrokenPipeError):
        spawn("yes", stdout=fail).wait(30)


def test_terminal(spawn: Spawn) -> None:
    script = "test -t 0 && test -t 1 && stty size; read line; echo got $line; stty size"
    read, write = os.pipe()
    process = spawn("sh", "-c", script, input=read, terminal=(33, 99))
    process.wait_for_output(b"33 99", 30)
    process.resize(44, 88)
    os.write(write, b"word\n")
    done = process.wait(30)
    assert b"got word" in done.stdout
    assert b"44 88" in done.stdout
    for fd in (read, write):
        os.close(fd)


def test_a_splat_fails_the_command_that_met_it(spawn: Spawn, kernel_log: Path) -> None:
    line = "WARNING: kernel/x.c:1 at f+0x1/0x2, CPU#0: sh/1"
    with pytest.raises(KernelSplat) as caught:
        spawn("sh", "-c", f"echo '[ 1.0] {line}' >> {kernel_log}").wait(30)
    assert any(line in shown for shown in caught.value.details)
    assert spawn("true").wait(30).returncode == 0  # told once


def test_a_process_of_a_lost_guest(session: Session, spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    session.kill()
    with pytest.raises(LostGuest):
        process.wait(30)
    assert process.over


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()

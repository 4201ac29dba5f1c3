# ruff: noqa: A002 - `input` is what subprocess calls it
"""``python -m vm``, as a shell sees it."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VM = [sys.executable, "-m", "vm"]
RUN = [*VM, "run", "--wheel", "none"]


def run(*argv: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, input=input, cwd=ROOT, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["sh", "-c", "exit 3"], 3, b""),
        (["sh", "-c", "kill -9 $$"], 128 + 9, b""),
        (["sh", "-c", "echo 'BUG: of a test' > /dev/kmsg"], 123, b"BUG: of a test"),
        (["sh", "-c", "echo c > /proc/sysrq-trigger"], 125, b"Kernel panic"),
        (["/etc"], 126, b"/etc"),
        (["nonesuch"], 127, b"nonesuch"),
    ],
    ids=["status", "signal", "splat", "lost", "not executable", "not found"],
)
def test_exit_status(command: list[str], status: int, said: bytes) -> None:
    done = run(*RUN, "--", *command)
    assert done.returncode == status, done.stderr
    assert done.stdout == b""
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_time_out() -> None:
    done = run(*RUN, "--timeout", "10", "--", "sh", "-c", "echo begun; sleep 1000")
    assert (done.returncode, done.stdout) == (124, b"begun\n")
    assert b"vm: error: sh did not end within 10 s" in done.stderr


def test_streams_are_passed_on_exactly() -> None:
    data = random.Random(2).randbytes(3_000_000)
    done = run(*RUN, "--", "sh", "-c", r"cat; printf '\377e' >&2", input=data)
    assert (done.returncode, done.stderr) == (0, b"\xffe")
    assert done.stdout == data


def test_our_own_words_go_to_stderr() -> None:
    done = run(*RUN, "-v", "--", "uname", "-r")
    release = done.stdout.decode().strip()
    assert f"Linux {release} under " in done.stderr.decode()


def test_pyzcrx_is_installed() -> None:
    done = run(*VM, "run", "--", "python3", "-c", "import pyzcrx; print(pyzcrx.__file__)")
    assert done.returncode == 0, done.stderr
    assert b"/dist-packages/pyzcrx/" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kernel", "/nowhere"], "no kernel at '/nowhere'"),
        (["--share", "/nowhere"], "cannot share /nowhere"),
        (["--vfio", "eth0"], "'eth0' is no PCI address"),
        (["--wheel", "/nowhere.whl"], "no wheel at /nowhere.whl"),
    ],
)
def test_bad_options(options: list[str], said: str) -> None:
    done = run(*RUN, *options, "--", "true")
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("options", [[], ["--traceback"]])
def test_a_traceback_on_request(options: list[str]) -> None:
    done = run(*RUN, *options, "--kernel", "/etc/passwd", "--", "true")
    assert b"/etc/passwd is not an x86 Linux kernel" in done.stderr
    assert (b"Traceback" in done.stderr) == bool(options)
    assert done.returncode == (1 if options else 122)


@pytest.mark.parametrize("times", [1, 2])
def test_interrupt(times: int) -> None:
    """Once it reaches the command, twice it ends the guest."""
    script = "trap 'echo got' INT; echo begun; n=0; while [ $n -lt 1000 ]; do sleep 1; done"
    if times == 1:
        script = "trap 'exit 9' INT; echo begun; while :; do sleep 0.1; done"
    vm = subprocess.Popen(
        [*RUN, "--", "sh", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert vm.stdout
    with vm:
        assert vm.stdout.readline() == b"begun\n"
        vm.send_signal(signal.SIGINT)
        if times == 2:
            assert vm.stdout.readline() == b"got\n"
            vm.send_signal(signal.SIGINT)
        assert vm.wait(60) == (9 if times == 1 else 128 + signal.SIGINT)


def test_a_reader_that_leaves() -> None:
    vm = subprocess.Popen(
        [*RUN, "--", "yes"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert vm.stdout
    assert vm.stderr
    with vm:
        assert vm.stdout.readline() == b"y\n"
        vm.stdout.close()
        assert vm.wait(60) == 128 + signal.SIGPIPE
        assert vm.stderr.read() == b""


def test_shell() -> None:
    child, master = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [*VM, "shell", "--wheel", "none", "--", "sh"])
    seen = b""
    for wanted, typed in [(b"# ", b"tty\n"), (b"/dev/pts/0", b"exit 5\n")]:
        while wanted not in seen:
            seen += os.read(master, 4096)
        os.write(master, typed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    os.close(master)


def test_shell_wants_a_terminal() -> None:
    done = run(*VM, "shell", "--wheel", "none")
    assert done.returncode == 2
    assert b"needs a terminal" in done.stderr


def test_build_names_the_image() -> None:
    done = run(*VM, "build")
    assert (Path(done.stdout.decode().strip()) / "root.ext4").is_file()

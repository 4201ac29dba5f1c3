"""Commands in a booted guest."""

from __future__ import annotations

import random
import signal

import pytest

from vm.errors import CannotExecute, CommandTimeout
from vm.guest import Guest


def sh(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-c", script], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@pytest.mark.parametrize("status", [0, 1, 7, 122, 123, 124, 125, 255])
def test_exit_status(guest: Guest, status: int) -> None:
    assert guest.run(["sh", "-c", f"exit {status}"]).returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_signal(guest: Guest, number: signal.Signals) -> None:
    done = guest.run(["sh", "-c", f"kill -{int(number)} $$"])
    assert (done.returncode, done.exit_status) == (-number, 128 + number)


def test_streams_are_separate_and_exact(guest: Guest) -> None:
    done = guest.run(["sh", "-c", r"printf '\000\377\r\n'; printf 'e\r' >&2"])
    assert (done.stdout, done.stderr) == (b"\x00\xff\r\n", b"e\r")


def test_ten_megabytes_there_and_back(guest: Guest) -> None:
    data = random.Random(1).randbytes(10_000_000)
    done = guest.run(["cat"], input=data, timeout=120)
    assert done.stdout == data
    assert done.stderr == b""


def test_no_such_command(guest: Guest) -> None:
    with pytest.raises(CannotExecute, match="nonesuch"):
        guest.run(["nonesuch"])


def test_time_out_kills_all_descendants(guest: Guest) -> None:
    """Also one that ignored the signal and one that left the process group."""
    script = "trap '' TERM; setsid sleep 4711 & sleep 4711 & echo begun; wait; sleep 4711"
    process = guest.spawn(["sh", "-c", script])
    process.wait_for_output(b"begun")
    with pytest.raises(CommandTimeout):
        process.wait(0.1)
    assert sh(guest, "pgrep -fx 'sleep 4711' | wc -l") == "0"


def test_a_command_takes_its_descendants_along(guest: Guest) -> None:
    guest.run(["sh", "-c", "setsid sleep 4712 & true"])
    assert sh(guest, "pgrep -fx 'sleep 4712' | wc -l") == "0"


def test_orphans_are_reaped(guest: Guest) -> None:
    script = """
        for i in 1 2 3; do (sleep 0.1 &); done
        sleep 0.5
        for i in $(seq 300); do ps -eo stat | grep -q ^Z || exit 0; sleep 0.1; done
        ps -ef
    """
    assert sh(guest, script) == ""


def test_a_server_beside_its_client(guest: Guest) -> None:
    server = guest.spawn(["nc", "-v", "-l", "127.0.0.1", "4000"])
    server.wait_for_output(b"Listening")
    client = guest.run(["nc", "-N", "127.0.0.1", "4000"], input=b"over loopback", timeout=60)
    assert client.returncode == 0
    assert server.wait(60).stdout == b"over loopback"


def test_terminal(guest: Guest) -> None:
    process = guest.spawn(["sh", "-c", "tty; stty size"], terminal=(33, 99))
    assert process.wait(60).stdout == b"/dev/pts/0\r\n33 99\r\n"


def test_environment(guest: Guest) -> None:
    done = guest.run(["sh", "-c", "echo $HOME $EXTRA; pwd"], env={"EXTRA": "yes"}, cwd="/tmp")
    assert done.stdout == b"/root yes\n/tmp\n"


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/self/fd", "/sys/class/net", "/sys/fs/cgroup/cgroup.procs", "/dev/pts/ptmx"),
        *("/sys/kernel/debug/tracing", "/sys/kernel/tracing/trace", "/dev/shm", "/dev/stdin"),
    ],
)
def test_what_programs_expect_of_a_machine(guest: Guest, path: str) -> None:
    assert guest.run(["test", "-e", path]).returncode == 0


def test_mounts_network_and_limits(guest: Guest) -> None:
    mounts = {
        line.split()[1]: line.split()[2] for line in sh(guest, "cat /proc/mounts").split("\n")
    }
    assert {mounts[at] for at in ("/tmp", "/run", "/dev/shm")} == {"tmpfs"}
    assert mounts["/dev/hugepages"] == "hugetlbfs"
    assert "127.0.0.1" in sh(guest, "ip -br address show up lo")
    assert sh(guest, "ls /sys/class/net") == "lo"
    assert int(sh(guest, "ulimit -n")) >= 4096
    assert sh(guest, "ulimit -l") == "unlimited"


def test_modules_load_on_demand(guest: Guest) -> None:
    assert (
        sh(guest, "modprobe veth && ip link add a0 type veth peer name b0 && ip link del a0") == ""
    )


def test_the_kernel_has_zero_copy_receive(guest: Guest) -> None:
    assert guest.release.startswith("7.")
    assert sh(guest, f"grep -x CONFIG_IO_URING_ZCRX=y /boot/config-{guest.release}")

"""Guests that die, complain or are left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vm import accel, emulator, image
from vm.boot import prepare
from vm.config import Config, Share
from vm.errors import BootFailed, HungGuest, KernelSplat, LostGuest
from vm.guest import Guest
from vm.kernel import locate

Boot = Callable[..., Guest]
ROOT = Path(__file__).parents[2]


def test_panic(boot: Boot) -> None:
    guest = boot()
    with pytest.raises(LostGuest, match="panicked") as caught:
        guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger"])
    assert any("sysrq triggered crash" in line for line in caught.value.details)


def test_qemu_killed(boot: Boot) -> None:
    guest = boot()
    process = guest.spawn(["sh", "-c", "echo begun; sleep 1000"])
    process.wait_for_output(b"begun")
    assert guest.qemu_pid
    os.kill(guest.qemu_pid, signal.SIGKILL)
    with pytest.raises(LostGuest, match="status -9"):
        process.wait()


def test_power_off_from_inside(boot: Boot) -> None:
    with pytest.raises(LostGuest, match="status 0"):
        boot().run(["busybox", "poweroff", "-f"])


def test_a_warning_fails_the_command(boot: Boot) -> None:
    guest = boot()
    warning = "WARNING: kernel/x.c:1 at f+0x1/0x2, CPU#0: sh/1"
    with pytest.raises(KernelSplat) as caught:
        guest.run(["sh", "-c", f"echo '{warning}' > /dev/kmsg"])
    assert any(warning in line for line in caught.value.details)
    assert guest.run(["true"]).returncode == 0


@pytest.mark.parametrize("how", ["spawned", "at the end"])
def test_no_warning_is_lost(boot: Boot, how: str) -> None:
    guest = boot()
    process = guest.spawn(["sh", "-c", "echo 'BUG: of a test' > /dev/kmsg; echo begun; sleep 1000"])
    process.wait_for_output(b"begun")
    process.kill()
    with pytest.raises(KernelSplat):
        process.wait() if how == "spawned" else guest.close()


BLOCK = """
echo 1 > /proc/sys/kernel/hung_task_timeout_secs
fsfreeze -f /
touch /x &
until dmesg | grep -q 'blocked.* for more than'; do sleep 0.2; done
fsfreeze -u /
"""


def test_a_real_report(boot: Boot) -> None:
    """The stock kernel complains of a task that a frozen file system blocks."""
    with pytest.raises(KernelSplat) as caught:
        boot().run(["sh", "-c", BLOCK], timeout=120)
    report = "\n".join(caught.value.details)
    assert "INFO: task touch:" in report
    assert "Call Trace:" in report
    assert "do_syscall_64" in report


def test_a_hang(boot: Boot) -> None:
    """QEMU stopped: neither dead nor alive."""
    guest = boot(Config(wheel="none", hang_seconds=20.0))
    process = guest.spawn(["sleep", "1000"])
    assert guest.qemu_pid
    os.kill(guest.qemu_pid, signal.SIGSTOP)
    with pytest.raises(HungGuest, match="no sign of life"):
        process.wait()


HOST = """
import time
from vm.config import Config
from vm.guest import Guest
guest = Guest(Config(wheel="none"))
print(guest.qemu_pid, flush=True)
time.sleep(1000)
"""


def test_the_host_process_killed() -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert host.stdout
    with host:
        qemu = int(host.stdout.readline())
        gone = os.pidfd_open(qemu)
        host.kill()
    poll = select.poll()
    poll.register(gone, select.POLLIN)
    assert poll.poll(30_000), "QEMU outlived its host process"
    os.close(gone)


def test_writes_do_not_last(boot: Boot) -> None:
    with boot() as guest:
        assert guest.run(["sh", "-c", "echo changed > /etc/hostname && sync"]).returncode == 0
    with boot() as guest:
        assert guest.read_text("/etc/hostname") == "pyzcrx\n"


def test_two_guests_at_once() -> None:
    def number(value: int) -> bytes:
        with Guest(Config(wheel="none", cpus=1)) as guest:
            return guest.run(["sh", "-c", f"echo {value} > /run/x; cat /run/x"]).stdout

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(number, [1, 2])) == [b"1\n", b"2\n"]


def test_shares(boot: Boot, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("from the host")
    (tmp_path / "out").mkdir()
    shares = (
        Share(tmp_path / "in", "/mnt/in"),
        Share(tmp_path / "out", "/mnt/deep/out", writable=True),
    )
    with boot(Config(wheel="none", shares=shares)) as guest:
        assert guest.read_text("/mnt/in/file") == "from the host"
        assert guest.run(["touch", "/mnt/in/new"]).returncode != 0
        assert guest.run(["cp", "/mnt/in/file", "/mnt/deep/out/copy"]).returncode == 0
        (tmp_path / "in/file").write_text("changed meanwhile")
        assert guest.read_text("/mnt/in/file") == "changed meanwhile"
    assert (tmp_path / "out/copy").read_text() == "from the host"
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["file"]


def test_console_file(boot: Boot, tmp_path: Path) -> None:
    with boot(Config(wheel="none", console=tmp_path / "log")) as guest:
        guest.run(["sh", "-c", "echo '<4>words of a test' > /dev/kmsg"])
    assert "words of a test" in (tmp_path / "log").read_text()


def test_a_kernel_that_finds_no_root(boot: Boot) -> None:
    with pytest.raises(BootFailed) as caught:
        boot(Config(wheel="none", append="rdinit=/nonexistent root=/dev/none"))
    assert any("Kernel panic" in line for line in caught.value.details)


def test_a_kernel_of_ones_own(boot: Boot) -> None:
    """Named by path, it brings its modules: here the stock one's, as the image keeps them."""
    with boot(Config(wheel="none", kernel=locate(image.obtain().vmlinuz))) as guest:
        release = guest.run(["uname", "-r"]).stdout.decode().strip()
        assert release == guest.release
        tree = f"/usr/lib/modules/{release}"
        assert f"{tree} 9p ro" in guest.read_text("/proc/mounts")
        assert "ext4.ko" in guest.read_text(f"{tree}/modules.dep")


def test_kvm_that_fails_after_all(boot: Boot) -> None:
    """Trusted on a verdict that does not hold, the guest boots without, and remembers."""
    stock = image.obtain()
    key = prepare(locate(stock.vmlinuz), stock).key
    verdict = accel.Verdict(key, emulator.obtain().version)
    verdict.remember(True)
    guest = boot()
    assert guest.run(["true"]).returncode == 0
    assert verdict.known() == guest.kvm or not accel.DEVICE.exists()

"""Emulated CPUs do what the kernel relies on."""

from __future__ import annotations

from collections.abc import Callable

from vm.guest import Guest

PATCHING = """
cd /sys/kernel/tracing
for n in 1 2 3; do (while :; do /bin/true; done) & done
end=$(($(date +%s) + 10))
patched=0
while [ $(date +%s) -lt $end ]; do
    for group in sched irq timer syscalls kmem; do
        echo 1 > events/$group/enable
        echo 0 > events/$group/enable
        patched=$((patched + 2))
    done
done
echo $patched
"""


def test_a_kernel_patches_its_code_while_other_cpus_run_it(boot: Callable[..., Guest]) -> None:
    """It does for each tracepoint, as modules load and as it boots, with breakpoints that no CPU
    may keep. QEMU before 8.1 dies of one within seconds."""
    done = boot().run(["sh", "-c", PATCHING], timeout=300)
    assert done.returncode == 0
    assert int(done.stdout) > 10

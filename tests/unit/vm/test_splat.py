"""Kernel reports are found, chatter is not."""

from __future__ import annotations

import pytest

from vm import splat

WARN = """\
[    9.100001] pyzcrx: mark 1
[    9.200000] ------------[ cut here ]------------
[    9.200001] WARNING: io_uring/zcrx.c:512 at io_zcrx_put+0x12/0x30, CPU#1: python3/212
[    9.200002] Modules linked in: 9p ext4
[    9.200003] RIP: 0010:io_zcrx_put+0x12/0x30
[    9.200004] Call Trace:
[    9.200005]  <TASK>
[    9.200006]  io_uring_release+0x1a/0x20
[    9.200007]  </TASK>
[    9.200008] ---[ end trace 0000000000000000 ]---
[    9.300000] eth0: link is up
"""


def test_a_warning_is_shown_whole_and_alone() -> None:
    lines = WARN.splitlines()
    assert splat.find(lines) == lines[1:10]


def test_a_report_s_headline() -> None:
    found = splat.find(WARN.splitlines())
    assert splat.headline(found) == splat.STAMP.sub("", found[1])
    rule = "=" * 66
    assert splat.headline([rule, "[ 1.0] BUG: KASAN: use-after-free in f"]) == (
        "BUG: KASAN: use-after-free in f"
    )
    assert splat.headline([]) == ""


def test_a_report_names_the_test_that_ran() -> None:
    lines = WARN.splitlines()
    begins = [f"[ {n}.0] pyzcrx: test tests/guest/test_{n}.py::test_{n}" for n in (1, 2, 3)]
    found = splat.find([*begins[:2], *lines, begins[2]])
    assert found == [begins[1], *lines[1:10]]
    assert splat.headline(found).endswith("python3/212 in tests/guest/test_2.py::test_2")


def test_console_line_ends_do_not_matter() -> None:
    found = splat.find(WARN.replace("\n", "\r\n").split("\n"))
    assert found == WARN.splitlines()[1:10]


def test_two_reports() -> None:
    assert len(splat.find((WARN + WARN).splitlines())) == 18


def test_a_report_of_kasan_ends_with_its_rule() -> None:
    rule = "[ 1.0] " + "=" * 66
    report = ["[ 1.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2", *["[ 1.0] more"] * 90, rule]
    assert splat.find([rule, *report, "[ 1.0] Disabling lock debugging due to taint"]) == report


def test_a_report_without_an_end_reaches_so_far_and_no_further() -> None:
    lines = ["[ 1.0] BUG: workqueue lockup - pool cpus=1", *["[ 1.0] more"] * 200]
    assert len(splat.find(lines)) == splat.REACH + 1


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 1 PID: 88 at net/core/page_pool.c:780 page_pool_put+0x1/0x2",
        "WARNING: at io_zcrx_put+0x12/0x30, CPU#0: python3/1",
        "WARNING: possible circular locking dependency detected",
        "WARNING: possible recursive locking detected",
        "WARNING: inconsistent lock state",
        "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
        "WARNING: suspicious RCU usage",
        "WARNING: bad unlock balance detected!",
        "WARNING: python3/88 still has locks held!",
        "[ BUG: Invalid wait context ]",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "BUG: unable to handle page fault for address: ffff888000000000",
        "BUG: KASAN: slab-use-after-free in io_zcrx_scrub+0x1/0x2",
        "BUG: KFENCE: out-of-bounds read in foo+0x1/0x2",
        "BUG: sleeping function called from invalid context at mm/slab.h:1",
        "BUG: scheduling while atomic: python3/88/0x00000002",
        "BUG: Bad page state in process python3  pfn:12345",
        "BUG kmalloc-64 (Not tainted): Poison overwritten",
        "kernel BUG at mm/page_alloc.c:123!",
        "Oops: 0002 [#1] SMP PTI",
        "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
        "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
        "Kernel panic - not syncing: sysrq triggered crash",
        "UBSAN: array-index-out-of-bounds in drivers/x.c:1:2",
        "list_del corruption. prev->next should be 1, but was 2. (prev=3)",
        "refcount_t: underflow; use-after-free.",
        "INFO: task python3:88 blocked for more than 120 seconds.",
        "INFO: task python3:88 blocked in I/O wait for more than 120 seconds.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [python3:88]",
        "page_pool_release_retry() stalled pool shutdown: id 3, 5 inflight 60 sec",
        "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    ],
)
@pytest.mark.parametrize("stamp", ["[   12.345678] ", "[   12.345678][  T212] ", "<4>[ 1.2] ", ""])
def test_every_kind_of_report(line: str, stamp: str) -> None:
    assert splat.find([f"{stamp}{line}"]) == [f"{stamp}{line}"]


@pytest.mark.parametrize(
    "line",
    [
        "mtrr: your CPUs had inconsistent MTRRdefType settings",
        "Warning: unable to open an initial console.",
        "WARNING: Flushing system-wide workqueues will be prohibited in near future.",
        "test: WARNING: CPU: this is a program's own line",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "DEBUG: BUGS are fun",
        "debug: no BUG: here",
        "ACPI BIOS Warning (bug): 32/64X length mismatch in FADT",
        "ACPI: bus type PCI registered, BUG list empty",
        "clocksource: Long readout interval, skipping watchdog check",
        "workqueue: do_something hogged CPU for >10000us 4 times",
        "INFO: lockdep is turned off.",
        "rcu: Hierarchical RCU implementation.",
        "python3[88]: segfault at 0 ip 00007f sp 00007f error 4 in libc.so.6",
        "traps: python3[88] general protection fault ip:7f sp:7f error:0",
        "pyzcrx: mark 3",
        "Oops, wrong number",
        "loading out-of-tree module taints kernel.",
        "TCP: request_sock_TCP: Possible SYN flooding on port 5201.",
    ],
)
def test_false_friends(line: str) -> None:
    assert splat.find([f"[   12.345678] {line}"]) == []


def test_a_bug_that_a_test_brings_about_is_expected_by_its_name() -> None:
    warned = [
        "[  1.000000] ------------[ cut here ]------------",
        "[  1.000000] WARNING: ./net/core/dev.h:398 at page_pool_disable_direct_recycling+0xa3",
        "[  1.000000] Modules linked in: gve 9p",
        "[  1.000000] ---[ end trace 0000000000000000 ]---",
    ]
    begin, end, other = (
        f"[  1.000000] pyzcrx: expecting the kernel bug {name}"
        for name in ("refused-restart", "none", "of another name")
    )
    assert splat.find([begin, *warned, "quiet", *warned, end]) == []
    assert splat.find(warned) == warned
    assert splat.find([begin, end, *warned]) == warned
    assert splat.find([other, *warned]) == warned
    elsewhere = [line.replace("net/core/dev.h", "net/core/dev.c") for line in warned]
    assert splat.find([begin, *elsewhere, *warned]) == elsewhere


def test_a_known_bug_of_the_kernel_fails_no_run() -> None:
    known = [
        "[  1.000000] ------------[ cut here ]------------",
        "[  1.000000] WARNING: net/core/netdev-genl.c:280 at netdev_nl_napi_dump_one+0xa3",
        "[  1.000000] Modules linked in: gve 9p",
        "[  1.000000] Call Trace:",
        "[  1.000000] ---[ end trace 0000000000000000 ]---",
    ]
    elsewhere = [line.replace(" gve ", " zcrxsim ") for line in known]
    assert splat.find(elsewhere) == elsewhere
    other = [line.replace("netdev_nl_napi_dump_one", "page_pool_destroy") for line in known]
    assert splat.find(known) == []
    assert splat.find([*known, "quiet", *other]) == other
    assert splat.find([*other, *known, *other]) == [*other, *other]

"""How a kernel complains, in one place: the lines that fail a run.

The patterns are the wording of the kernel's own reports (7.3 and some years back), from
the start of the line and case-sensitive: a driver's "warning: ...", a test's chatter
about bugs, or `WARNING: Flushing system-wide workqueues...`, which is advice, do not match.
"""

from __future__ import annotations

import re

LOCKDEP = (
    "possible (?:circular|recursive|irq lock inversion|deadlock)",
    "inconsistent lock state",
    r"\S+-safe -> \S+-unsafe lock order",
    "chain_key collision",
    "Nested lock was not taken",
    "bad (?:unlock balance|contention)",
    "held lock freed",
    ".* still has locks held",
    "lock held when returning",
    "suspicious RCU usage",
)
STARTS = (
    "-+\\[ cut here \\]-+",  # WARN, BUG, refcount_t, list corruption: lib/bug.c, kernel/panic.c
    r"WARNING: (?:CPU: \d+ PID|at |\S+:\d+ at )",  # the same, should the line above be lost
    f"WARNING: (?:{'|'.join(LOCKDEP)})",  # kernel/locking/lockdep.c
    r"\[ BUG: ",  # lockdep: Invalid wait context
    "BUG: ",  # page faults, sleeping in atomic context, KASAN, KFENCE, page state...
    r"BUG \S+ \(",  # mm/slub.c
    r"kernel BUG at ",
    "Kernel panic - not syncing",
    r"(?:Oops|general protection fault|divide error|invalid opcode|double fault)\b.*\[#\d+\]",
    "UBSAN: ",
    "list_(?:add|del) corruption",
    "refcount_t: ",
    "INFO: task .* blocked.* for more than",  # kernel/hung_task.c
    "INFO: trying to register non-static key",
    r"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stall",  # kernel/rcu/tree_stall.h
    "watchdog: (?:BUG: |.*[Hh]ard LOCKUP)",
    r"page_pool_release_retry\(\) stalled pool shutdown",  # buffers that never came home
    "unregister_netdevice: waiting for",
    "ref_tracker: .*(?:users at|leaked)",
    r"kmemleak: \d+ new suspected memory leaks",
)
START = re.compile("|".join(f"(?:{pattern})" for pattern in STARTS))
END = re.compile(r"---\[ end |={60,}$")  # the second: mm/kasan/report.c
KNOWN = re.compile(
    # napi-dump-order in docs/reference/kernel-bugs.md
    r"WARNING: [^\n]* at netdev_nl_napi_dump_one\+.*\n[^\n]*Modules linked in:[^\n]* gve ",
    re.DOTALL,
)
"""Kernel bugs that are listed there, where they were seen, and of which nothing follows: a report
of one fails no run."""
NAMED = {
    "refused-restart": re.compile(
        r"WARNING: [^\n]*net/core/dev\.h:\d+ at .*\n[^\n]*Modules linked in:[^\n]* gve ", re.DOTALL
    ),
}
"""The same for bugs that a test brings about: their reports pass where the log says before that it
is to be expected (:data:`EXPECTING`), and only until it says that none is."""
EXPECTING = re.compile(r"pyzcrx: expecting the kernel bug (\S+)$")
TEST = re.compile(r"pyzcrx: test \S")
"""What tests say as they begin (tests/conftest.py)."""
STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[[^]]*\])? ?")
REACH = 120  # lines shown of a report that has no end marker


def find(lines: list[str]) -> list[str]:
    """The reports among console lines, whole, one after another; nothing if there is none.

    Those of :data:`KNOWN` are left out, and those of :data:`NAMED` where they are expected.

    The line that names the running test precedes a report. A report runs to its end marker, or as
    far as one may reach: other messages that it includes are better seen than cut off.
    """
    shown: list[str] = []
    until, begins = -1, 0
    test = ""
    expected: re.Pattern[str] | None = None
    for number, line in enumerate(lines):
        text = STAMP.sub("", line.rstrip())
        if said := EXPECTING.match(text):
            expected = NAMED.get(said[1])
        if TEST.match(text):
            test = line.rstrip()
        if START.match(text):
            if number > until:
                begins = len(shown)
                shown += [test] * bool(test)
            until = number + REACH
        if number <= until:
            shown.append(line.rstrip())
            if END.match(text):
                until = -1
                report = "\n".join(shown[begins:])
                if KNOWN.search(report) or (expected and expected.search(report)):
                    del shown[begins:]
    return shown


def headline(report: list[str]) -> str:
    """What one of them is about, in a line: the first that is more than a mark, and the test."""
    texts = [STAMP.sub("", line) for line in report]
    about = (t for t in texts if t.strip("-=") and "cut here" not in t and not TEST.match(t))
    test = next((f" in {text.split(' ', 2)[2]}" for text in texts if TEST.match(text)), "")
    return next(about, "") + test

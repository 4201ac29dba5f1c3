"""What a test of the kernel says, read from its KTAP."""

from __future__ import annotations

import pytest

from vm import ktap
from vm.ktap import Outcome

KTAP = b"""\
TAP version 13
1..4
ok 1 iou-zcrx.test_zcrx.single
not ok 2 iou-zcrx.test_zcrx.rss
ok 3 stats.check_pause # SKIP pause not supported by the device
ok 4 ring_reconfig.reconfig_tx_stall # XFAIL could not build qdisc backlog
# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0
"""


def test_counts_by_verdict_and_directive() -> None:
    outcome = Outcome.read("a.py", 1, KTAP)
    assert outcome.counts == {"pass": 1, "fail": 1, "skip": 1, "xfail": 1}
    assert not outcome.ok
    assert str(outcome) == "FAIL a.py: 1 fail, 1 pass, 1 skip, 1 xfail (status 1)"
    assert outcome.reasons[1] == "skip: check_pause pause not supported by the device"


def test_skips_and_expected_failures_are_no_failure() -> None:
    assert Outcome.read("a.py", 0, KTAP.replace(b"not ok", b"ok")).ok


@pytest.mark.parametrize(("status", "ktap"), [(1, b"ok 1 a.b\n"), (0, b"")])
def test_a_status_and_silence_are_failures(status: int, ktap: bytes) -> None:
    assert not Outcome.read("a.py", status, ktap).ok


def test_the_reason_of_a_failure_is_what_was_said_before_it() -> None:
    said = b"# Check| At a.py\n# Check failed 1 != 0 rx-packets\nnot ok 1 a.b\nnot ok 2 a.c\n"
    assert Outcome.read("a.py", 1, said).reasons == ["fail: b 1 != 0 rx-packets", "fail: c"]


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (1, b"net.lib.py.ksft.KsftSkipEx: LOCAL_PREFIX_V6 required\n", "LOCAL_PREFIX_V6 required"),
        (4, b"SKIP: mausezahn not installed\n", "mausezahn not installed"),
    ],
)
def test_a_test_may_skip_as_a_whole(status: int, said: bytes, reason: str) -> None:
    outcome = Outcome.read("a.py", status, said)
    assert outcome.ok
    assert outcome.reasons == [f"skip: {reason}"]


def test_results_of_shell_tests() -> None:
    said = b"TEST: ping  [ OK ]\nTEST: Autoneg, no partner    [FAIL]\n\tno such thing\n"
    assert Outcome.read("a.sh", 1, said).counts == {"pass": 1, "fail": 1}


def test_the_table_has_the_first_reason_of_a_kind() -> None:
    text = ktap.table([Outcome.read("a.py", 1, KTAP)])
    row = text.splitlines()[2]
    assert row.startswith("| `a.py` | 1 | 1 | 1 | 1 | 0 | fail: test_zcrx.rss; skip: check_pause")


def test_programs_of_a_makefile() -> None:
    makefile = "CFLAGS += x\nTEST_PROGS := \\\n\ta.py \\\n\tb.sh \\\n# end of TEST_PROGS\n"
    assert ktap.programs(makefile) == ["a.py", "b.sh"]
    assert ktap.programs("TEST_PROGS = \\\n\tc.py \\\n\t#\n\nTEST_PROGS_EXTENDED := d.py\n") == [
        "c.py"
    ]

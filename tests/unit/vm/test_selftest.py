"""What a test of the kernel says, read from its KTAP."""

from __future__ import annotations

import pytest

from vm import selftest
from vm.errors import BadRequest

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
    outcome = selftest.Outcome.read("a.py", 1, KTAP)
    assert outcome.counts == {"pass": 1, "fail": 1, "skip": 1, "xfail": 1}
    assert not outcome.ok
    assert str(outcome) == "FAIL a.py: 1 fail, 1 pass, 1 skip, 1 xfail (status 1)"


def test_skips_and_expected_failures_are_no_failure() -> None:
    assert selftest.Outcome.read("a.py", 0, KTAP.replace(b"not ok", b"ok")).ok


@pytest.mark.parametrize(("status", "ktap"), [(1, b"ok 1 a.b\n"), (0, b"")])
def test_a_status_and_silence_are_failures(status: int, ktap: bytes) -> None:
    assert not selftest.Outcome.read("a.py", status, ktap).ok


def test_series_of_a_release() -> None:
    assert selftest.release_series("7.3.4+deb13-amd64") == "7.3"
    assert selftest.release_series("7.3-rc1") == "7.3"
    with pytest.raises(BadRequest, match="no kernel release"):
        selftest.release_series("linux")


